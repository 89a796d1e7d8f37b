_base_ = [
    '../_base_/datasets/fashion_mnist_32.py',
    '../_base_/supernets/deit-small-images.py',
    '../_base_/schedules/small_images_3000it.py',
    '../_base_/schedules/small_images_adamw.py',
]

model = dict(type='dms_mm.SlimModel', structure='work_dirs/fashion_mnist/search_deit/structure.json')
