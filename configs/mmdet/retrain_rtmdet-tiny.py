_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'

model = dict(
    _delete_=True,
    type='dms_mm.SlimModel',
    architecture=_base_.model,
    structure='work_dirs/search_rtmdet-tiny/structure.json',
    checkpoint='work_dirs/search_rtmdet-tiny/slim.pth',
)
