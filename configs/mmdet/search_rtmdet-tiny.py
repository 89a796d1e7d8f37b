_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'

model = dict(
    _delete_=True,
    type='dms_mm.DMS',
    architecture=_base_.model,
    input_shape=(3, 640, 640),
    target=dict(macs=0.5),
)
