# The largest network of AutoFormer-S as MMPretrain's vision transformer, without AutoFormer's relative positions.
_base_ = './deit-small-16.py'

architecture = _base_.model.architecture.architecture
architecture.backbone = dict(
    type='mmpretrain.VisionTransformer',
    arch=dict(embed_dims=448, num_layers=14, num_heads=7, feedforward_channels=1792),
    img_size=224,
    patch_size=16,
)
architecture.head.in_channels = 448
model = dict(_delete_=True, architecture=architecture)
del architecture
