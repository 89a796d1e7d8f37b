# MMPretrain's classic recipe of ResNet-50, 100 epochs.
_base_ = ['mmpretrain::resnet/resnet152_8xb32_in1k.py']

model = dict(
    _delete_=True,
    type='dms_mm.SlimModel',
    architecture=_base_.model,
    structure='work_dirs/search_np_r50/structure.json',
)
