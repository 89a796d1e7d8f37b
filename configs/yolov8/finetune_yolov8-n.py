# DMS_p: the kept weights go on by the same recipe, at a tenth of its rate and a fifth of its length.
_base_ = '../_base_/supernets/yolov8-d05-w05.py'

max_epochs = 100
model = dict(
    type='dms_mm.SlimModel',
    structure='work_dirs/search_p_yolov8-n/structure.json',
    checkpoint='work_dirs/search_p_yolov8-n/slim.pth',
)
optim_wrapper = dict(optimizer=dict(lr=0.001))
train_cfg = dict(max_epochs=max_epochs, dynamic_intervals=[(max_epochs - 10, 1)])
custom_hooks = [_base_.custom_hooks[0], {**_base_.custom_hooks[1], 'switch_epoch': max_epochs - 10}]
default_hooks = dict(param_scheduler=dict(max_epochs=max_epochs))
