# timm's EfficientNet-B4 in MMPretrain's wrapper for whole timm classifiers.
architecture = dict(
    type='mmpretrain.TimmClassifier',
    model_name='efficientnet_b4',
    drop_rate=0.2,
    drop_path_rate=0.2,
    loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
)
