_base_ = [
    '../_base_/datasets/imagenet_bs256_deit_224.py',
    '../_base_/supernets/deit-small-16.py',
    '../_base_/schedules/deit_300e.py',
]

model = dict(type='dms_mm.SlimModel', structure='work_dirs/search_np_deit-t/structure.json')
