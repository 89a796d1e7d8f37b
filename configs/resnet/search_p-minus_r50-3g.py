# DMS_p-: 800 iterations, the structure alone.
_base_ = ['mmpretrain::resnet/resnet50_8xb32_in1k.py']

model = dict(
    _delete_=True,
    type='dms_mm.DMS',
    architecture=_base_.model,
    input_shape=(3, 224, 224),
    target=dict(macs=3.0e9),
    space=dict(depth=False),
    pipeline='p-',
    pretrained='checkpoints/resnet50_8xb32_in1k.pth',
)
train_dataloader = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=800, val_interval=800)
# Only a parameter that does nothing is left to train.
optim_wrapper = dict(optimizer=dict(lr=0.0))
param_scheduler = dict(_delete_=True, type='ConstantLR', factor=1.0, by_epoch=False)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(_delete_=True, type='CheckpointHook', by_epoch=False, interval=200, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
