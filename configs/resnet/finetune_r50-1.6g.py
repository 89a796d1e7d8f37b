# The kept weights, trained on as TPP and its kin do: 100 epochs from a tenth of the rate.
_base_ = ['mmpretrain::resnet/resnet50_8xb32_in1k.py']

model = dict(
    _delete_=True,
    type='dms_mm.SlimModel',
    architecture=_base_.model,
    structure='work_dirs/search_p_r50-1.6g/structure.json',
    checkpoint='work_dirs/search_p_r50-1.6g/slim.pth',
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
