# On AutoFormer's grid, to the cost of AutoFormer-S.
_base_ = [
    '../_base_/datasets/imagenet_bs256_deit_224.py',
    '../_base_/supernets/timm-autoformer-small.py',
    '../_base_/spaces/timm-autoformer-small.py',
    '../_base_/schedules/deit_search_30e.py',
]

model = dict(
    type='dms_mm.DMS',
    input_shape=(3, 224, 224),
    target=dict(macs=5.1e9),
    space=_base_.space,
    search=_base_.search,
)
