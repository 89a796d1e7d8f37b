# DMS_p-: the structure alone, some hundreds of iterations; the weights stay as they are.
_base_ = ['./_recipe.py']

iters = 800
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=iters, val_interval=iters)
param_scheduler = []
# There are no weights to train: a plain optimizer for a parameter that does nothing.
optim_wrapper = dict(_delete_=True, optimizer=dict(type='SGD', lr=0.0))
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(_delete_=True, type='CheckpointHook', by_epoch=False, interval=200, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
