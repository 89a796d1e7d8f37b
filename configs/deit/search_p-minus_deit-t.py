_base_ = [
    '../_base_/datasets/imagenet_bs256_deit_224.py',
    '../_base_/supernets/deit-small-16.py',
    '../_base_/schedules/structure_only_800it.py',
]

model = dict(
    type='dms_mm.DMS',
    input_shape=(3, 224, 224),
    target=dict(macs=1.3e9),
    pipeline='p-',
    pretrained='work_dirs/pretrain_deit-s16/epoch_300.pth',
)
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
