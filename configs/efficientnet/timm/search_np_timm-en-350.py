_base_ = './search_np_timm-en-b0.py'

model = dict(target=dict(macs=0.35e9))
