_base_ = ['./_data.py', './_sgd.py', './_retrain_schedule.py', './_efficientnet.py']

model = dict(
    type='dms_mm.SlimModel',
    architecture=_base_.architecture,
    structure='work_dirs/fashion_mnist/search_efficientnet/structure.json',
)
