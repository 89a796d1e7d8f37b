# The grid of AutoFormer-S (Chen et al., ICCV 2021, table 1): embedding of 320, 384 or 448, five to seven heads of 64
# channels in each block, MLP ratio of 3, 3.5 or 4, and 12 to 14 blocks. Ratios are of the supernet's embedding: each
# width is found by itself. Names are of MMPretrain's VisionTransformer.
space = dict(
    units={
        'backbone.patch_embed.projection': dict(min=320, round_to=64),
        '*.attn.qkv/head': dict(min=5),
        '*.attn.qkv/head_dim': dict(ignore=True),
        '*.ffn.layers.0.0': dict(min=1344, round_to=224),
        '*.layers/depth': dict(min=12),
    }
)
