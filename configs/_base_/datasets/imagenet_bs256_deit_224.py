# ImageNet as MMPretrain augments it for DeiT and Swin, 256 images a GPU.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py'

train_dataloader = dict(batch_size=256)
