_base_ = [
    '../../_base_/datasets/imagenet_bs256_deit_224.py',
    '../../_base_/supernets/timm-deit-small-16.py',
    '../../_base_/schedules/deit_300e.py',
]

model = dict(_delete_=True, **_base_.model.architecture)
