# Table 12: the same cost from ResNet-101.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    '../_base_/supernets/resnet101.py',
    '../_base_/schedules/resnet_search_10e.py',
]

model = dict(type='dms_mm.DMS', input_shape=(3, 224, 224), target=dict(macs=1.0e9))
