# timm's recipe of EfficientNet (METHOD: RMSprop of TensorFlow, step decay, EMA, RandAugment), for 8 GPUs of 96 images.
_base_ = '../default_runtime.py'

optim_wrapper = dict(
    optimizer=dict(type='dms_mm.RMSpropTF', lr=0.048, alpha=0.9, eps=1e-3, momentum=0.9, weight_decay=1e-5),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / 0.048, by_epoch=True, end=5, convert_to_iter_based=True),
    # 0.97 every 2.4 epochs: the milestones are the epochs at which another 2.4 are over.
    dict(type='MultiStepLR', by_epoch=True, gamma=0.97, milestones=[-(-24 * i // 10) for i in range(3, 188)]),
]
train_cfg = dict(by_epoch=True, max_epochs=450, val_interval=1)
val_cfg = dict()
test_cfg = dict()
custom_hooks = [
    dict(type='EMAHook', momentum=1e-4, update_buffers=True, priority='ABOVE_NORMAL'),
    *_base_.custom_hooks,
]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3, save_best='auto'))
auto_scale_lr = dict(base_batch_size=768)
