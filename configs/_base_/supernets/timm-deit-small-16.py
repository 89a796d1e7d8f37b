# timm's DeiT-Small, deepened by the same factor, in MMPretrain's wrapper of timm classifiers.
_base_ = './deit-small-16.py'

architecture = _base_.model.architecture.architecture
model = dict(
    architecture=dict(
        architecture=dict(
            _delete_=True,
            type='mmpretrain.TimmClassifier',
            model_name='deit_small_patch16_224',
            loss=architecture.head.loss,
            train_cfg=architecture.train_cfg,
        )
    )
)
del architecture
