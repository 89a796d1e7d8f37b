_base_ = '../_base_/supernets/yolov8-d05-w05.py'

model = dict(_delete_=True, **_base_.model.architecture)
