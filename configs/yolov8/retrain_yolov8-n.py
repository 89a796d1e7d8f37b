# All 500 epochs of MMYOLO's recipe of YOLOv8-n.
_base_ = './_supernet.py'

model = dict(
    _delete_=True,
    type='dms_mm.SlimModel',
    architecture=_base_.architecture,
    structure='work_dirs/search_np_yolov8-n/structure.json',
)
