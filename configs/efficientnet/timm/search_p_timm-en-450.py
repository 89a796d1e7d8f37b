_base_ = './search_np_timm-en-450.py'

model = dict(pipeline='p', pretrained='work_dirs/pretrain_timm-b4-224/epoch_450.pth')
