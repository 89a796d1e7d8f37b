# timm's EfficientNet-B4 in MMPretrain's wrapper of timm backbones.
_base_ = './efficientnet-b4.py'

backbone = dict(_delete_=True, type='mmpretrain.TIMMBackbone', model_name='efficientnet_b4', drop_path_rate=0.2)
model = dict(architecture=dict(backbone=backbone))
del backbone
