# A timm ResNet in MMPretrain with one width for every stage: too wide where positions are many, too thin where
# they are few. The search has to find that out.
model = dict(
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmpretrain.TIMMBackbone',
            model_name='resnet18',
            in_channels=1,
            stem_width=32,
            channels=(32, 32, 32, 32),
        ),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=32),
    )
)
