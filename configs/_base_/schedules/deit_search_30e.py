# 30 epochs, of which the learning rate warms up for 20.
_base_ = './deit_300e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=10, eta_min=1e-5, by_epoch=True, begin=20, end=30, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=30)
# The target falls once the rate is up, and not before.
search = dict(warmup=20 / 30, ramp=0.15, widths_only=0.1)
custom_hooks = [dict(type='dms_mm.DMSHook'), *_base_.custom_hooks]
