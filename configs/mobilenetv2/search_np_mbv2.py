# A tenth of MMPretrain's recipe of MobileNetV2.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py',
    '../_base_/supernets/mobilenetv2-large.py',
    'mmpretrain::_base_/schedules/imagenet_bs256_epochstep.py',
    '../_base_/default_runtime.py',
]

model = dict(type='dms_mm.DMS', input_shape=(3, 224, 224), target=dict(macs=0.3e9))
train_cfg = dict(max_epochs=30)
custom_hooks = [dict(type='dms_mm.DMSHook'), *_base_.custom_hooks]
