from .checkpoint import KeepUntilSavedHook, SafeCheckpointHook
from .search_hook import DMSHook
from .structure_loop import StructureLoop

__all__ = ['DMSHook', 'KeepUntilSavedHook', 'SafeCheckpointHook', 'StructureLoop']
