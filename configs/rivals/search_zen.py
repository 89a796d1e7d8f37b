# Evolution by Zen-score: no weight is trained, and no image looked at.
_base_ = './search_evolution.py'

train_cfg = dict(max_iters=0, strategy=dict(judge=dict(_delete_=True, type='ZenScore'), order='index'))
