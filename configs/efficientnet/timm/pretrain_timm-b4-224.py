_base_ = ['../_imagenet_224.py', '../_recipe.py', './_b4.py']

model = _base_.architecture
