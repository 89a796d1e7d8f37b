_base_ = ['../_imagenet_256.py', '../_structure_only.py', './_b7.py']

train_dataloader = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
model = dict(
    type='dms_mm.DMS',
    architecture=_base_.architecture,
    input_shape=_base_.input_shape,
    target=dict(macs=0.68e9),
    pipeline='p-',
    pretrained='work_dirs/pretrain_timm-b7-256/epoch_450.pth',
)
