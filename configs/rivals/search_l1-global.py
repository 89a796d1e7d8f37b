_base_ = './search_l1-uniform.py'

train_cfg = dict(strategy=dict(importance='l1', ratios='global'))
