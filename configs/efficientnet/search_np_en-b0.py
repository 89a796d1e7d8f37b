_base_ = [
    '../_base_/datasets/imagenet_bs96_timm_224.py',
    '../_base_/supernets/efficientnet-b4.py',
    '../_base_/schedules/efficientnet_search_30e.py',
]

model = dict(
    type='dms_mm.DMS',
    input_shape=(3, 224, 224),
    target=dict(macs=0.39e9),
    search=_base_.search,
    architecture=dict(head=dict(dropout_rate=0.5)),  # 0.2 in the retraining
)
