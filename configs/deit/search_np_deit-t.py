# 30 epochs, of which the learning rate warms up for 20.
_base_ = ['./_supernet.py']

model = dict(
    _delete_=True,
    type='dms_mm.DMS',
    architecture=_base_.architecture,
    input_shape=(3, 224, 224),
    target=dict(macs=1.3e9),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=10, eta_min=1e-5, by_epoch=True, begin=20, end=30, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=30)
custom_hooks = [dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
