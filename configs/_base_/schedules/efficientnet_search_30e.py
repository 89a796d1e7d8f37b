# 30 epochs of the same recipe. EMA belongs to weights that are kept; the structure's are trained anew.
_base_ = './efficientnet_450e.py'

train_cfg = dict(max_epochs=30)
custom_hooks = [dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
