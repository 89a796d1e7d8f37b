_base_ = ['../_imagenet_256.py', '../_recipe.py', './_b7.py']

model = _base_.architecture
