# DMS_p: widths alone, from MMPretrain's weights resnet50_8xb32_in1k.
_base_ = ['mmpretrain::resnet/resnet50_8xb32_in1k.py']

model = dict(
    _delete_=True,
    type='dms_mm.DMS',
    architecture=_base_.model,
    input_shape=(3, 224, 224),
    target=dict(macs=1.6e9),
    space=dict(depth=False),
    pipeline='p',
    pretrained='checkpoints/resnet50_8xb32_in1k.pth',
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(milestones=[5, 8])
train_cfg = dict(max_epochs=10)
custom_hooks = [dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
