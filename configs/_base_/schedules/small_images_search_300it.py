# A tenth of the retraining.
_base_ = './small_images_3000it.py'

train_cfg = dict(max_iters=300)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = param_scheduler[1].begin = 30
param_scheduler[1].end = 300
custom_hooks = [dict(type='dms_mm.DMSHook'), *_base_.custom_hooks]
