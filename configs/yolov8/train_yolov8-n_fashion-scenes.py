# The baseline: YOLOv8-n itself, the supernet scaled by MMYOLO's factors, with the same recipe.
_base_ = './_fashion_scenes.py'

model = _base_.architecture
model.backbone.deepen_factor = 0.33
model.neck.deepen_factor = 0.33
model.backbone.widen_factor = 0.25
model.neck.widen_factor = 0.25
model.bbox_head.head_module.widen_factor = 0.25
