# The baseline: YOLOv8-n itself, the supernet scaled by MMYOLO's factors, with the same recipe.
_base_ = '../_base_/datasets/fashion_scenes_160.py'

architecture = _base_.model.architecture
architecture.backbone.update(deepen_factor=0.33, widen_factor=0.25)
architecture.neck.update(deepen_factor=0.33, widen_factor=0.25)
architecture.bbox_head.head_module.widen_factor = 0.25
model = dict(_delete_=True, **architecture)
del architecture
