# What is found at 1G from ResNet-152, by MMPretrain's classic recipe.
_base_ = './retrain_r50.py'

model = dict(structure='work_dirs/search_np_r152-1g/structure.json')
