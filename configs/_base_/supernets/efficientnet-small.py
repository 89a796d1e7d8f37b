# The shape of EfficientNet-B0 at half its width, by the scaler.
model = dict(
    architecture=dict(
        type='dms_mm.Scaled',
        width=0.5,
        input_shape=(3, 32, 32),
        architecture=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='mmpretrain.EfficientNet', arch='b0'),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=1280),
        ),
    )
)
