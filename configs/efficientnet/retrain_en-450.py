_base_ = './retrain_en-b0.py'

model = dict(structure='work_dirs/search_np_en-450/structure.json')
