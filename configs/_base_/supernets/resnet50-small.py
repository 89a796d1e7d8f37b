# The shape of ResNet-50 at a quarter of its width, with the 3 x 3 stem that small images take.
model = dict(
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.ResNet_CIFAR', depth=50, stem_channels=16, base_channels=16, strides=(2, 2, 2, 2)
        ),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=512),
    )
)
