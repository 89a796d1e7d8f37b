_base_ = './search_np_timm-en-b1.py'

model = dict(pipeline='p', pretrained='work_dirs/pretrain_timm-b7-256/epoch_450.pth')
