# On a grid like Once-for-All's, every budget from one search: `dms sweep` retrains each.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py',
    '../_base_/supernets/ofa-mobilenetv3.py',
    '../_base_/spaces/ofa-mobilenetv3.py',
    'mmpretrain::_base_/schedules/imagenet_bs256_epochstep.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='dms_mm.DMS',
    input_shape=(3, 224, 224),
    target=dict(macs=[0.8, 0.6, 0.45]),
    space=_base_.space,
)
train_cfg = dict(max_epochs=30)
custom_hooks = [dict(type='dms_mm.DMSHook'), *_base_.custom_hooks]
