# autoformer-small.py in the names of timm's VisionTransformer, in MMPretrain's wrapper of timm classifiers.
space = dict(
    units={
        '*.patch_embed.proj': dict(min=320, round_to=64),
        '*.attn.qkv/head': dict(min=5),
        '*.attn.qkv/head_dim': dict(ignore=True),
        '*.mlp.fc1': dict(min=1344, round_to=224),
        '*.blocks/depth': dict(min=12),
    }
)
