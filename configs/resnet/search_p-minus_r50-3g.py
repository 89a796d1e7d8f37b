# DMS_p-: 800 iterations, the structure alone.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    '../_base_/supernets/resnet50.py',
    '../_base_/schedules/structure_only_800it.py',
]

model = dict(
    type='dms_mm.DMS',
    input_shape=(3, 224, 224),
    target=dict(macs=3.0e9),
    space=dict(depth=False),
    pipeline='p-',
    pretrained='checkpoints/resnet50_8xb32_in1k.pth',
)
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
