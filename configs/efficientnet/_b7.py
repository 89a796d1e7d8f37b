# Supernet of EN-B1 at 256 px and EN-B2 at 288 px: EfficientNet-B7.
architecture = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmpretrain.EfficientNet', arch='b7', drop_path_rate=0.2),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='dms_mm.DropoutLinearClsHead',
        num_classes=1000,
        in_channels=2560,
        dropout_rate=0.2,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        topk=(1, 5),
    ),
)
