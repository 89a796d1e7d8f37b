# The shape of DeiT: the same width from first block to last, deepened like the paper's supernet (12 -> 16) from 6 to 8.
model = dict(
    architecture=dict(
        type='dms_mm.Scaled',
        depth=8 / 6,
        input_shape=(3, 32, 32),
        architecture=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(
                type='mmpretrain.VisionTransformer',
                arch=dict(embed_dims=96, num_layers=6, num_heads=6, feedforward_channels=384),
                img_size=32,
                patch_size=8,
            ),
            neck=None,
            head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=10, in_channels=96),
            init_cfg=[
                dict(type='TruncNormal', layer='Linear', std=0.02),
                dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
            ],
        ),
    )
)
