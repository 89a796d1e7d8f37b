# DMS_p: widths alone, from MMPretrain's weights resnet50_8xb32_in1k.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    '../_base_/supernets/resnet50.py',
    '../_base_/schedules/resnet_search_10e.py',
]

model = dict(
    type='dms_mm.DMS',
    input_shape=(3, 224, 224),
    target=dict(macs=1.6e9),
    space=dict(depth=False),
    pipeline='p',
    pretrained='checkpoints/resnet50_8xb32_in1k.pth',
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
