# DMS_p goes on with what it kept: a tenth of the rate, a fifth of the epochs.
_base_ = './deit_300e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=59, eta_min=1e-6, by_epoch=True, begin=1, end=60, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=60)
