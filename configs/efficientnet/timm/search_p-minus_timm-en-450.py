_base_ = './search_p-minus_timm-en-b0.py'

model = dict(target=dict(macs=0.45e9))
