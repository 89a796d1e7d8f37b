_base_ = ['../_imagenet_288.py', '../_search_recipe.py', './_b7.py']

model = dict(
    type='dms_mm.DMS',
    architecture=_base_.architecture,
    input_shape=_base_.input_shape,
    target=dict(macs=1.1e9),
)
