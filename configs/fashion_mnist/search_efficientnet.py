_base_ = [
    '../_base_/datasets/fashion_mnist_32.py',
    '../_base_/supernets/efficientnet-small.py',
    '../_base_/schedules/small_images_search_300it.py',
    '../_base_/schedules/small_images_sgd.py',
]

model = dict(type='dms_mm.DMS', input_shape=(3, 32, 32), target=dict(macs=0.2))
