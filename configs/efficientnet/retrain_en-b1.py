_base_ = [
    '../_base_/datasets/imagenet_bs96_timm_256.py',
    '../_base_/supernets/efficientnet-b7.py',
    '../_base_/schedules/efficientnet_450e.py',
]

model = dict(type='dms_mm.SlimModel', structure='work_dirs/search_np_en-b1/structure.json')
