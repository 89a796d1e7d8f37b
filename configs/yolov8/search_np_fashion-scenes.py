# One epoch, an eighth of the retraining, to the MACs of YOLOv8-n at 160 px (train_yolov8-n_fashion-scenes.py).
_base_ = '../_base_/datasets/fashion_scenes_160.py'

max_epochs = 1
model = dict(
    type='dms_mm.DMS',
    input_shape=(3, 160, 160),
    target=dict(macs=0.2528e9),
    # Half of the width that uniform scaling gives: 250 noisy steps are no ground to leave a layer with less.
    search=dict(floor=0.25),
)
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
# Small batches: a search wants steps, and weights that have left their initialisation behind.
train_dataloader = dict(batch_size=8)
default_hooks = dict(param_scheduler=dict(max_epochs=max_epochs, warmup_epochs=0.1, warmup_mim_iter=25))
custom_hooks = [_base_.custom_hooks[0], dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
