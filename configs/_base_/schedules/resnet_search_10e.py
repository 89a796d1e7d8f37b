# A tenth of MMPretrain's classic recipe, its steps moved along.
_base_ = ['../default_runtime.py', 'mmpretrain::_base_/schedules/imagenet_bs256.py']

param_scheduler = dict(milestones=[5, 8])
train_cfg = dict(max_epochs=10)
custom_hooks = [dict(type='dms_mm.DMSHook'), *_base_.custom_hooks]
