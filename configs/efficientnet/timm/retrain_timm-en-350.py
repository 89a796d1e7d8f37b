_base_ = ['../_imagenet_224.py', '../_recipe.py', './_b4.py']

model = dict(
    type='dms_mm.SlimModel',
    architecture=_base_.architecture,
    structure='work_dirs/search_np_timm-en-350/structure.json',
)
