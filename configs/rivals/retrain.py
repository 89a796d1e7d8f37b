_base_ = '../demo/retrain.py'

model = dict(structure='work_dirs/rivals/search_evolution/structure.json')
