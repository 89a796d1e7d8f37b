# Depth alone: blocks go by their importance, and widths give what the last block would have been too much.
_base_ = './search_l1-uniform.py'

train_cfg = dict(strategy=dict(importance='taylor', ratios='depth'))
