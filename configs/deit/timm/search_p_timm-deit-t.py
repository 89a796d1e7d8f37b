_base_ = './search_np_timm-deit-t.py'

model = dict(pipeline='p', pretrained='work_dirs/pretrain_timm-deit-s16/epoch_300.pth')
