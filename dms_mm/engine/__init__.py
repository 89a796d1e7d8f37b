from .checkpoint import KeepUntilSavedHook, SafeCheckpointHook
from .search_hook import DMSHook

__all__ = ['DMSHook', 'KeepUntilSavedHook', 'SafeCheckpointHook']
