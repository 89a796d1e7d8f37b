# The teacher of DeiT's own paper is a RegNetY-16GF; timm has weights of it.
distillation = dict(
    teacher=dict(type='mmpretrain.TimmClassifier', model_name='regnety_160.deit_in1k', pretrained=True),
    losses=[dict(type='dms_mm.KLDivergence'), dict(type='dms_mm.DIST')],
)
