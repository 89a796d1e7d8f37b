# 30 epochs to 4.2G MACs at 640 px; mosaic to the last epoch.
_base_ = '../_base_/supernets/yolov8-d05-w05.py'

max_epochs = 30
model = dict(type='dms_mm.DMS', input_shape=(3, 640, 640), target=dict(macs=4.2e9))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs, dynamic_intervals=None)
default_hooks = dict(
    param_scheduler=dict(max_epochs=max_epochs),
    checkpoint=dict(interval=5, save_best=None),
)
# EMA averages weights that are trained anew after the search; it stays, as the recipe evaluates by it.
custom_hooks = [_base_.custom_hooks[0], dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
