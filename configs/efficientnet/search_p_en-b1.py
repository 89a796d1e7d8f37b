_base_ = './search_np_en-b1.py'

model = dict(pipeline='p', pretrained='work_dirs/pretrain_b7-256/epoch_450.pth')
