# By iterations, so that the same schedule fits the digits and all of Fashion-MNIST.
iters = 1500
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=100000)
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', T_max=iters - 100, eta_min=1e-4, by_epoch=False, begin=100, end=iters),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=100, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False, window_size=20)
custom_hooks = [dict(type='dms_mm.SafeCheckpointHook')]
randomness = dict(seed=0)
