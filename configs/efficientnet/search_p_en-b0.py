_base_ = './search_np_en-b0.py'

model = dict(pipeline='p', pretrained='work_dirs/pretrain_b4-224/epoch_450.pth')
