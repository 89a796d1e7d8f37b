from .checkpoint import SafeCheckpointHook
from .search_hook import DMSHook

__all__ = ['DMSHook', 'SafeCheckpointHook']
