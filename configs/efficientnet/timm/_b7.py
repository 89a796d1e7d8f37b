# timm's EfficientNet-B7 in MMPretrain's wrapper of timm backbones.
architecture = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmpretrain.TIMMBackbone', model_name='efficientnet_b7', drop_path_rate=0.2),
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
