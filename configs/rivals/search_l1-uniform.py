# Pruning by the L1 norm of weights, every width by one factor, after as many iterations as a search by gradients.
_base_ = [
    '../_base_/datasets/fashion_mnist_28.py',
    '../_base_/supernets/resnet18-flat.py',
    '../_base_/schedules/small_images_strategy.py',
    '../_base_/schedules/small_images_sgd.py',
]

model = dict(type='dms_mm.DMS', input_shape=(1, 28, 28), target=dict(macs=0.1))
train_cfg = dict(max_iters=400, strategy=dict(type='Pruning', importance='l1', ratios='uniform'))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 400
