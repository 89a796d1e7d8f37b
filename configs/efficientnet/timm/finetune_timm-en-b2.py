_base_ = [
    '../../_base_/datasets/imagenet_bs96_timm_288.py',
    '../../_base_/supernets/timm-efficientnet-b7.py',
    '../../_base_/schedules/efficientnet_finetune_90e.py',
]

model = dict(
    type='dms_mm.SlimModel',
    structure='work_dirs/search_p_timm-en-b2/structure.json',
    checkpoint='work_dirs/search_p_timm-en-b2/slim.pth',
)
