# A tenth of the retraining.
_base_ = './_retrain_schedule.py'
iters = 300
train_cfg = dict(max_iters=iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=iters - 30, eta_min=1e-4, by_epoch=False, begin=30, end=iters),
]
custom_hooks = [dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
