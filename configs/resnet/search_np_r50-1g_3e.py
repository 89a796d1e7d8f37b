# Table 14: a search of 3 epochs.
_base_ = './search_np_r50-1g.py'

param_scheduler = dict(milestones=[1, 2])
train_cfg = dict(max_epochs=3)
