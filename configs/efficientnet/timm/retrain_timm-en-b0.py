_base_ = [
    '../../_base_/datasets/imagenet_bs96_timm_224.py',
    '../../_base_/supernets/timm-efficientnet-b4.py',
    '../../_base_/schedules/efficientnet_450e.py',
]

model = dict(type='dms_mm.SlimModel', structure='work_dirs/search_np_timm-en-b0/structure.json')
