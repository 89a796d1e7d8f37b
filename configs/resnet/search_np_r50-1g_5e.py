# Table 14: a search of 5 epochs.
_base_ = './search_np_r50-1g.py'

param_scheduler = dict(milestones=[2, 4])
train_cfg = dict(max_epochs=5)
