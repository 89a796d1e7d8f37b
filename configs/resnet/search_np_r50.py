# ResNet-152 to the cost of ResNet-50 in 10 epochs, MMPretrain's recipe.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    '../_base_/supernets/resnet152.py',
    '../_base_/schedules/resnet_search_10e.py',
]

model = dict(type='dms_mm.DMS', input_shape=(3, 224, 224), target=dict(macs=4.0e9))
