# timm's EfficientNet-B7.
_base_ = './timm-efficientnet-b4.py'

model = dict(architecture=dict(backbone=dict(model_name='efficientnet_b7'), head=dict(in_channels=2560)))
