# DMS_np: weights and structure together, from scratch, to a fiftieth of the supernet's MACs.
_base_ = [
    '../_base_/datasets/fashion_mnist_28.py',
    '../_base_/supernets/resnet18-flat.py',
    '../_base_/schedules/small_images_search_300it.py',
    '../_base_/schedules/small_images_sgd.py',
]

model = dict(type='dms_mm.DMS', input_shape=(1, 28, 28), target=dict(macs=0.02), pipeline='np')
train_cfg = dict(max_iters=400)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = param_scheduler[1].begin = 50
param_scheduler[1].update(end=400, eta_min=1e-3)
default_hooks = dict(checkpoint=dict(interval=100))
