_base_ = [
    '../_base_/datasets/imagenet_bs256_deit_224.py',
    '../_base_/supernets/deit-small-16.py',
    '../_base_/schedules/deit_search_30e.py',
]

model = dict(type='dms_mm.DMS', input_shape=(3, 224, 224), target=dict(macs=1.3e9), search=_base_.search)
