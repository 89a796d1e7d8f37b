# The kept weights, trained on as TPP and its kin do: 100 epochs from a tenth of the rate.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    '../_base_/supernets/resnet50.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='dms_mm.SlimModel',
    structure='work_dirs/search_p_r50-1.6g/structure.json',
    checkpoint='work_dirs/search_p_r50-1.6g/slim.pth',
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
