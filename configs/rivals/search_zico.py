# Evolution by ZiCo: no weight is trained.
_base_ = './search_evolution.py'

train_cfg = dict(max_iters=0, strategy=dict(judge=dict(_delete_=True, type='ZiCo'), order='index'))
