# timm's EfficientNet-B7.
_base_ = './_b4.py'

architecture = dict(backbone=dict(model_name='efficientnet_b7'), head=dict(in_channels=2560))
