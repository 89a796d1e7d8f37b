_base_ = ['../_imagenet_224.py', '../_finetune_recipe.py', './_b4.py']

model = dict(
    type='dms_mm.SlimModel',
    architecture=_base_.architecture,
    structure='work_dirs/search_p_timm-en-b0/structure.json',
    checkpoint='work_dirs/search_p_timm-en-b0/slim.pth',
)
