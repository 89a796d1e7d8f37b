# YOLOv8 with depth factor 0.5 and width factor 0.5, in MMYOLO's recipe of YOLOv8-n (mosaic, EMA, SyncBN, warm-up).
_base_ = 'mmyolo::yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py'

input_shape = (3, 640, 640)
deepen_factor = 0.5
widen_factor = 0.5
architecture = _base_.model
architecture.backbone.deepen_factor = deepen_factor
architecture.backbone.widen_factor = widen_factor
architecture.neck.deepen_factor = deepen_factor
architecture.neck.widen_factor = widen_factor
architecture.bbox_head.head_module.widen_factor = widen_factor
