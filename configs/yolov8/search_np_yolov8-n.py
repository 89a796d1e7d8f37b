# 30 epochs to 4.2G MACs at 640 px; mosaic to the last epoch.
_base_ = './_supernet.py'

max_epochs = 30
model = dict(
    _delete_=True,
    type='dms_mm.DMS',
    architecture=_base_.architecture,
    input_shape=_base_.input_shape,
    target=dict(macs=4.2e9),
)
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs, dynamic_intervals=None)
default_hooks = dict(
    param_scheduler=dict(max_epochs=max_epochs),
    checkpoint=dict(interval=5, save_best=None),
)
# EMA averages weights that are trained anew after the search; it stays, as the recipe evaluates by it.
custom_hooks = [_base_.custom_hooks[0], dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
