_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py',
    '../_base_/supernets/mobilenetv2-large.py',
    'mmpretrain::_base_/schedules/imagenet_bs256_epochstep.py',
    '../_base_/default_runtime.py',
]

model = dict(type='dms_mm.SlimModel', structure='work_dirs/search_np_mbv2/structure.json')
