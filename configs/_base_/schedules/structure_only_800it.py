# DMS_p-: the structure alone, some hundreds of iterations; the weights stay as they are.
_base_ = '../default_runtime.py'

iters = 800
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=iters)
val_cfg = dict()
test_cfg = dict()
param_scheduler = []
# There are no weights to train: a plain optimizer for a parameter that does nothing.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.0))
auto_scale_lr = dict(base_batch_size=768)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=200, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='dms_mm.DMSHook'), *_base_.custom_hooks]
del iters
