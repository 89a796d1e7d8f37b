# What is found at 1G, whichever config found it, by MMPretrain's classic recipe.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    '../_base_/supernets/resnet152.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(type='dms_mm.SlimModel', structure='work_dirs/search_np_r152-1g/structure.json')
