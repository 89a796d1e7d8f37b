# The best of random structures, by the same judge and to the same cost.
_base_ = './search_evolution.py'

train_cfg = dict(strategy=dict(_delete_=True, type='RandomSearch', judge=dict(type='SupernetJudge'), evaluations=512))
