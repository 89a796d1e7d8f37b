# 1.5 times the channels and twice the blocks of MobileNetV2, by the scaler; MMPretrain's recipe and data.
_base_ = ['mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py']

architecture = dict(type='dms_mm.Scaled', width=1.5, depth=2.0, architecture=_base_.model)
