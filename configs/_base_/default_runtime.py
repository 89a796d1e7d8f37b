# MMPretrain's runtime, with checkpoints that are written whole or not at all.
_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_hooks = [dict(type='dms_mm.SafeCheckpointHook')]
