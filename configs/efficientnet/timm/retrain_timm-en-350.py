_base_ = './retrain_timm-en-b0.py'

model = dict(structure='work_dirs/search_np_timm-en-350/structure.json')
