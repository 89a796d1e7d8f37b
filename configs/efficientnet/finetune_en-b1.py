_base_ = [
    '../_base_/datasets/imagenet_bs96_timm_256.py',
    '../_base_/supernets/efficientnet-b7.py',
    '../_base_/schedules/efficientnet_finetune_90e.py',
]

model = dict(
    type='dms_mm.SlimModel',
    structure='work_dirs/search_p_en-b1/structure.json',
    checkpoint='work_dirs/search_p_en-b1/slim.pth',
)
