_base_ = [
    '../_base_/datasets/imagenet_bs96_timm_288.py',
    '../_base_/supernets/efficientnet-b7.py',
    '../_base_/schedules/structure_only_800it.py',
]

model = dict(
    type='dms_mm.DMS',
    input_shape=(3, 288, 288),
    target=dict(macs=1.1e9),
    pipeline='p-',
    pretrained='work_dirs/pretrain_b7-288/epoch_450.pth',
)
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
