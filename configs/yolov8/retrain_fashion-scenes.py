_base_ = '../_base_/datasets/fashion_scenes_160.py'

model = dict(type='dms_mm.SlimModel', structure='work_dirs/search_np_fashion-scenes/structure.json')
