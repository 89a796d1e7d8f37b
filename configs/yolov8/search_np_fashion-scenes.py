# One epoch, an eighth of the retraining, to the MACs of YOLOv8-n at 160 px (train_yolov8-n_fashion-scenes.py).
_base_ = './_fashion_scenes.py'

max_epochs = 1
model = dict(
    _delete_=True,
    type='dms_mm.DMS',
    architecture=_base_.architecture,
    input_shape=_base_.input_shape,
    target=dict(macs=0.2528e9),
)
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(param_scheduler=dict(max_epochs=max_epochs))
custom_hooks = [_base_.custom_hooks[0], dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
