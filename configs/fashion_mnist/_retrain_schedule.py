iters = 3000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=100000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=150),
    dict(type='CosineAnnealingLR', T_max=iters - 150, eta_min=1e-4, by_epoch=False, begin=150, end=iters),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=500, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False, window_size=20)
custom_hooks = [dict(type='dms_mm.SafeCheckpointHook')]
randomness = dict(seed=0)
