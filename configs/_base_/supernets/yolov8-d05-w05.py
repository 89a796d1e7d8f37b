# YOLOv8 with depth factor 0.5 and width factor 0.5. MMYOLO's config is one file: its data and its recipe of YOLOv8-n
# (mosaic, EMA, SyncBN, warm-up) come along.
_base_ = 'mmyolo::yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py'

deepen_factor = 0.5
widen_factor = 0.5
architecture = _base_.model
architecture.backbone.update(deepen_factor=deepen_factor, widen_factor=widen_factor)
architecture.neck.update(deepen_factor=deepen_factor, widen_factor=widen_factor)
architecture.bbox_head.head_module.widen_factor = widen_factor
model = dict(_delete_=True, architecture=architecture)
del architecture
