# ResNet-152 to the cost of ResNet-50 in 10 epochs, MMPretrain's recipe.
_base_ = ['mmpretrain::resnet/resnet152_8xb32_in1k.py']

model = dict(
    _delete_=True,
    type='dms_mm.DMS',
    architecture=_base_.model,
    input_shape=(3, 224, 224),
    target=dict(macs=4.0e9),
)
param_scheduler = dict(milestones=[5, 8])
train_cfg = dict(max_epochs=10)
custom_hooks = [dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
