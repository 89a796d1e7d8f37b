# The recipe rsb-a1 (600 epochs, LAMB, mixup, cutmix, repeated augmentation) on the structure of search_np_r50.py.
_base_ = ['mmpretrain::resnet/resnet50_8xb256-rsb-a1-600e_in1k.py']

architecture = _base_.model
architecture.backbone.depth = 152
model = dict(
    _delete_=True,
    type='dms_mm.SlimModel',
    architecture=architecture,
    structure='work_dirs/search_np_r50/structure.json',
)
