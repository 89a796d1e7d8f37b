# The largest network of AutoFormer-S as timm's vision transformer, in MMPretrain's wrapper of timm classifiers.
_base_ = './deit-small-16.py'

architecture = _base_.model.architecture.architecture
model = dict(
    _delete_=True,
    architecture=dict(
        type='mmpretrain.TimmClassifier',
        model_name='deit_small_patch16_224',
        embed_dim=448,
        depth=14,
        num_heads=7,
        loss=architecture.head.loss,
        train_cfg=architecture.train_cfg,
    ),
)
del architecture
