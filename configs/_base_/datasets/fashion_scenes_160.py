# The data set of tools/dataset_converters/fashion_scenes.py at 160 px, in 8 epochs of MMYOLO's recipe: no download, and
# small enough for a CPU. Pipelines and schedule are entries of the one config file of MMYOLO; the supernet comes along.
_base_ = '../supernets/yolov8-d05-w05.py'

data_root = 'data/fashion_scenes/'
scale = (160, 160)
classes = (
    'T-shirt', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'
)  # fmt: skip
metainfo = dict(classes=classes)

model = dict(
    architecture=dict(
        bbox_head=dict(head_module=dict(num_classes=len(classes))),
        train_cfg=dict(assigner=dict(num_classes=len(classes))),
    )
)

train_pipeline = _base_.train_dataloader.dataset.pipeline
train_pipeline_stage2 = _base_.custom_hooks[1].switch_pipeline
test_pipeline = _base_.val_dataloader.dataset.pipeline
for transform in [*train_pipeline, *train_pipeline_stage2, *test_pipeline]:
    for key in ('img_scale', 'scale'):
        if key in transform:
            transform[key] = scale
    if 'border' in transform:
        transform['border'] = (-scale[0] // 2, -scale[1] // 2)

loader = dict(batch_size=16, num_workers=0, persistent_workers=False, pin_memory=False)
common = dict(data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    **loader,
    dataset=dict(
        **common,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=False, min_size=0),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    **loader,
    dataset=dict(
        **common, ann_file='annotations/val.json', data_prefix=dict(img='val/'), pipeline=test_pipeline
    ),
)  # fmt: skip
test_dataloader = dict(
    **loader,
    dataset=dict(
        **common, ann_file='annotations/test.json', data_prefix=dict(img='test/'), pipeline=test_pipeline
    ),
)  # fmt: skip
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = dict(ann_file=data_root + 'annotations/test.json')

max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=2, dynamic_intervals=None)
default_hooks = dict(
    # The warm-up of a run of 1,000 iterations can't take 1,000.
    param_scheduler=dict(max_epochs=max_epochs, warmup_epochs=1, warmup_mim_iter=100),
    checkpoint=dict(interval=2, save_best=None, max_keep_ckpts=1),
    logger=dict(interval=25),
)
# The average of a short run follows its weights faster.
custom_hooks = [
    {**_base_.custom_hooks[0], 'momentum': 0.002},
    {**_base_.custom_hooks[1], 'switch_epoch': max_epochs - 2, 'switch_pipeline': train_pipeline_stage2},
    dict(type='dms_mm.SafeCheckpointHook'),
]
del transform, key
