_base_ = './finetune_timm-en-b0.py'

model = dict(
    structure='work_dirs/search_p_timm-en-450/structure.json',
    checkpoint='work_dirs/search_p_timm-en-450/slim.pth',
)
