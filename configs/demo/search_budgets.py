# Three budgets from one search; `dms sweep configs/demo/retrain.py` retrains each.
_base_ = './search.py'

model = dict(target=dict(macs=[0.1, 0.05, 0.02]))
