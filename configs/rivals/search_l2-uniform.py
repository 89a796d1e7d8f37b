_base_ = './search_l1-uniform.py'

train_cfg = dict(strategy=dict(importance='l2', ratios='uniform'))
