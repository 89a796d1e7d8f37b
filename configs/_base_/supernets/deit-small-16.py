# DeiT-Small with 16 blocks instead of 12, otherwise as MMPretrain's deit-small_4xb256_in1k.
model = dict(
    architecture=dict(
        type='dms_mm.Scaled',
        depth=16 / 12,
        architecture=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='mmpretrain.VisionTransformer', arch='deit-small', img_size=224, patch_size=16),
            neck=None,
            head=dict(
                type='mmpretrain.VisionTransformerClsHead',
                num_classes=1000,
                in_channels=384,
                loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
            ),
            init_cfg=[
                dict(type='TruncNormal', layer='Linear', std=0.02),
                dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
            ],
            train_cfg=dict(
                augments=[dict(type='mmpretrain.Mixup', alpha=0.8), dict(type='mmpretrain.CutMix', alpha=1.0)]
            ),
        ),
    )
)
