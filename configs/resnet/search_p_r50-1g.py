# Table 12: ResNet-50 to 1G from MMPretrain's weights resnet50_8xb32_in1k, widths and depths.
_base_ = './search_np_r50-1g.py'

model = dict(pipeline='p', pretrained='checkpoints/resnet50_8xb32_in1k.pth')
optim_wrapper = dict(optimizer=dict(lr=0.01))
