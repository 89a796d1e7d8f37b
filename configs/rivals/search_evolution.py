# Evolution, judged by the trained supernet on held-out images, its batch norms recalibrated.
_base_ = [
    '../_base_/datasets/fashion_mnist_28.py',
    '../_base_/supernets/resnet18-flat.py',
    '../_base_/schedules/small_images_strategy.py',
    '../_base_/schedules/small_images_sgd.py',
]

model = dict(type='dms_mm.DMS', input_shape=(1, 28, 28), target=dict(macs=0.1))
train_cfg = dict(strategy=dict(type='Evolution', judge=dict(type='SupernetJudge'), evaluations=512))
