_base_ = ['./_data.py', './_sgd.py', './_search_schedule.py', './_efficientnet.py']

model = dict(
    type='dms_mm.DMS',
    architecture=_base_.architecture,
    target=dict(macs=0.2),
    input_shape=(3, 32, 32),
    pipeline='np',
)
