# Table 14: a search of 20 epochs.
_base_ = './search_np_r50-1g.py'

param_scheduler = dict(milestones=[10, 16])
train_cfg = dict(max_epochs=20)
