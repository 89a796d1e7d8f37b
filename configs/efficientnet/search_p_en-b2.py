_base_ = './search_np_en-b2.py'

model = dict(pipeline='p', pretrained='work_dirs/pretrain_b7-288/epoch_450.pth')
