_base_ = [
    '../../_base_/datasets/imagenet_bs96_timm_288.py',
    '../../_base_/supernets/timm-efficientnet-b7.py',
    '../../_base_/schedules/efficientnet_search_30e.py',
]

model = dict(
    type='dms_mm.DMS',
    input_shape=(3, 288, 288),
    target=dict(macs=1.1e9),
    search=_base_.search,
    architecture=dict(head=dict(dropout_rate=0.5)),  # 0.2 in the retraining
)
