_base_ = ['../_imagenet_224.py', '../_search_recipe.py', './_b4.py']

model = dict(
    type='dms_mm.DMS',
    architecture=_base_.architecture,
    input_shape=_base_.input_shape,
    target=dict(macs=0.39e9),
)
