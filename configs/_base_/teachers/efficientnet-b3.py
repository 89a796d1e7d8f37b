# A teacher beside the labels (the variants marked with a dagger): any MMPretrain or timm classifier with weights.
distillation = dict(
    teacher=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.EfficientNet', arch='b3'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=1000, in_channels=1536),
    ),
    # MMPretrain's model zoo: efficientnet-b3_3rdparty_8xb32_in1k.
    teacher_checkpoint='checkpoints/efficientnet-b3_3rdparty_8xb32_in1k.pth',
    losses=[dict(type='dms_mm.KLDivergence'), dict(type='dms_mm.DIST')],
)
