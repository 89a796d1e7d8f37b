# Once-for-All's MobileNetV3 at its largest, with kernels of five pixels.
_base_ = 'mmpretrain::_base_/models/mobilenet_v3/mobilenet_v3_large_imagenet.py'

model = dict(
    _delete_=True,
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='dms_mm.ElasticMobileNetV3', kernel=5),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=_base_.model.head,
    ),
)
