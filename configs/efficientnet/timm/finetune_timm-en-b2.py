_base_ = ['../_imagenet_288.py', '../_finetune_recipe.py', './_b7.py']

model = dict(
    type='dms_mm.SlimModel',
    architecture=_base_.architecture,
    structure='work_dirs/search_p_timm-en-b2/structure.json',
    checkpoint='work_dirs/search_p_timm-en-b2/slim.pth',
)
