_base_ = './search_np_deit-t.py'

model = dict(pipeline='p', pretrained='work_dirs/pretrain_deit-s16/epoch_300.pth')
