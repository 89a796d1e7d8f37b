# ImageNet as timm's recipe augments it, 96 images a GPU.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

train_pipeline = _base_.train_pipeline
train_pipeline[4].erase_prob = 0.2
train_dataloader = dict(batch_size=96, num_workers=8, dataset=dict(pipeline=train_pipeline))
