_base_ = [
    '../_base_/datasets/imagenet_bs96_timm_256.py',
    '../_base_/supernets/efficientnet-b7.py',
    '../_base_/schedules/efficientnet_450e.py',
]

model = dict(_delete_=True, **_base_.model.architecture)
