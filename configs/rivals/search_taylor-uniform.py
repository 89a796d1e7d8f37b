_base_ = './search_l1-uniform.py'

train_cfg = dict(strategy=dict(importance='taylor', ratios='uniform'))
