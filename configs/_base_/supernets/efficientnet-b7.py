# Supernet of EN-B1 at 256 px and EN-B2 at 288 px: EfficientNet-B7.
_base_ = './efficientnet-b4.py'

model = dict(architecture=dict(backbone=dict(arch='b7'), head=dict(in_channels=2560)))
