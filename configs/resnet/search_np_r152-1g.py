# Table 12: ResNet-152 to 1G.
_base_ = './search_np_r50.py'

model = dict(target=dict(macs=1.0e9))
