_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'

model = dict(
    _delete_=True,
    type='dms_mm.SlimModel',
    architecture=_base_.model,
    structure='work_dirs/search_retinanet_r50_fpn/structure.json',
    checkpoint='work_dirs/search_retinanet_r50_fpn/slim.pth',
)
