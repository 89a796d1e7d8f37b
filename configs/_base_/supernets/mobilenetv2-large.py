# 1.5 times the channels and twice the blocks of MobileNetV2, by the scaler.
_base_ = 'mmpretrain::_base_/models/mobilenet_v2_1x.py'

model = dict(
    _delete_=True,
    architecture=dict(type='dms_mm.Scaled', width=1.5, depth=2.0, architecture=_base_.model),
)
