_base_ = ['./_data.py', './_sgd.py', './_search_schedule.py', './_resnet.py']

model = dict(
    type='dms_mm.DMS',
    architecture=_base_.architecture,
    target=dict(macs=0.1),
    input_shape=(3, 32, 32),
    pipeline='np',
)
