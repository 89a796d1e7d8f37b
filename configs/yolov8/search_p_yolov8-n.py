# DMS_p: from the pretrained supernet.
_base_ = './search_np_yolov8-n.py'

model = dict(pipeline='p', pretrained='work_dirs/pretrain_yolov8/epoch_500.pth')
optim_wrapper = dict(optimizer=dict(lr=0.001))
