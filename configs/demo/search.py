# DMS_np: weights and structure together, from scratch, to 10% of the supernet's MACs.
_base_ = ['./_data.py', './_schedule.py', './_supernet.py', '../_base_/search.py']

model = dict(
    type='dms_mm.DMS',
    architecture=_base_.architecture,
    target=dict(macs=0.1),
    input_shape=(1, 28, 28),
    pipeline='np',
)
