# Fashion-MNIST at 32 px, as three equal channels, so that ImageNet architectures take it as they are.
data_preprocessor = dict(num_classes=10, mean=[73.0] * 3, std=[90.0] * 3, to_rgb=False)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(
        type='dms_mm.SmallImages',
        name='fashion-mnist',
        split='train',
        channels=3,
        pipeline=[
            dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
    sampler=dict(type='InfiniteSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(
        type='dms_mm.SmallImages',
        name='fashion-mnist',
        split='test',
        channels=3,
        # 28 + 2 + 2: the only crop is the whole image.
        pipeline=[dict(type='mmpretrain.RandomCrop', crop_size=32, padding=2), dict(type='mmpretrain.PackInputs')],
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
