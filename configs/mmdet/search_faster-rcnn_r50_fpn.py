_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(
    _delete_=True,
    type='dms_mm.DMS',
    architecture=_base_.model,
    input_shape=(3, 800, 1344),
    target=dict(macs=0.5),
)
