_base_ = [
    '../../_base_/datasets/imagenet_bs256_deit_224.py',
    '../../_base_/supernets/timm-deit-small-16.py',
    '../../_base_/schedules/deit_finetune_60e.py',
]

model = dict(
    type='dms_mm.SlimModel',
    structure='work_dirs/search_p_timm-deit-t/structure.json',
    checkpoint='work_dirs/search_p_timm-deit-t/slim.pth',
)
