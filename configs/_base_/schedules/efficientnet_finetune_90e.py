# DMS_p retrains what it kept: a tenth of the rate, a fifth of the epochs, cosine.
_base_ = './efficientnet_450e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=89, eta_min=1e-5, by_epoch=True, begin=1, end=90, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=0.0048))
train_cfg = dict(max_epochs=90)
