_base_ = [
    '../../_base_/datasets/imagenet_bs96_timm_224.py',
    '../../_base_/supernets/timm-efficientnet-b4.py',
    '../../_base_/schedules/structure_only_800it.py',
]

model = dict(
    type='dms_mm.DMS',
    input_shape=(3, 224, 224),
    target=dict(macs=0.39e9),
    pipeline='p-',
    pretrained='work_dirs/pretrain_timm-b4-224/epoch_450.pth',
)
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
