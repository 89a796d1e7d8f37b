# Supernet of everything below 0.5G MACs: EfficientNet-B4 at 224 px.
model = dict(
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.EfficientNet', arch='b4', drop_path_rate=0.2),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='dms_mm.DropoutLinearClsHead',
            num_classes=1000,
            in_channels=1792,
            dropout_rate=0.2,
            loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
            topk=(1, 5),
        ),
    )
)
