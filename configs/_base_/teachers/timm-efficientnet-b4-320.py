# The teacher of the authors' EN-450: timm's EfficientNet-B4 at the size that it was trained at, and nothing but DIST.
distillation = dict(
    teacher=dict(type='mmpretrain.TimmClassifier', model_name='efficientnet_b4.ra2_in1k', pretrained=True),
    teacher_size=320,
    losses=[dict(type='dms_mm.DIST')],
    task_weight=0.0,
)
