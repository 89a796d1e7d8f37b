# timm's EfficientNet-B4 in MMPretrain's wrapper of timm backbones.
_base_ = '../_b4.py'

architecture = dict(
    backbone=dict(
        _delete_=True, type='mmpretrain.TIMMBackbone', model_name='efficientnet_b4', drop_path_rate=0.2
    ),
)  # fmt: skip
