# DeiT-S with 16 blocks instead of 12; recipe and data are MMPretrain's own for DeiT (its Swin recipe).
_base_ = ['mmpretrain::deit/deit-small_4xb256_in1k.py']

architecture = dict(type='dms_mm.Scaled', depth=16 / 12, architecture=_base_.model)
