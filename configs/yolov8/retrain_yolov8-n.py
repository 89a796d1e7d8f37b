# All 500 epochs of MMYOLO's recipe of YOLOv8-n.
_base_ = '../_base_/supernets/yolov8-d05-w05.py'

model = dict(type='dms_mm.SlimModel', structure='work_dirs/search_np_yolov8-n/structure.json')
