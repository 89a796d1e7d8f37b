_base_ = ['../_imagenet_288.py', '../_recipe.py', './_b7.py']

model = _base_.architecture
