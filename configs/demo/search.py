# DMS_np: weights and structure together, from scratch, to a tenth of the supernet's MACs.
_base_ = ['./_data.py', './_schedule.py', './_supernet.py']

model = dict(
    type='dms_mm.DMS',
    architecture=_base_.architecture,
    target=dict(macs=0.1),
    input_shape=(1, 28, 28),
    pipeline='np',
)
iters = 400
train_cfg = dict(max_iters=iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=iters - 50, eta_min=1e-3, by_epoch=False, begin=50, end=iters),
]
custom_hooks = [dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
