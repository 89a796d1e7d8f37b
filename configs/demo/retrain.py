# The found structure from scratch: the host's own class, slim.
_base_ = [
    '../_base_/datasets/fashion_mnist_28.py',
    '../_base_/supernets/resnet18-flat.py',
    '../_base_/schedules/small_images_3000it.py',
    '../_base_/schedules/small_images_sgd.py',
]

model = dict(type='dms_mm.SlimModel', structure='work_dirs/demo/search/structure.json')
train_cfg = dict(max_iters=1500)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = param_scheduler[1].begin = 100
param_scheduler[1].end = 1500
default_hooks = dict(checkpoint=dict(interval=100))
