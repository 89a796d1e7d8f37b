_base_ = ['./_data.py', './_adamw.py', './_retrain_schedule.py', './_deit.py']

model = dict(
    type='dms_mm.SlimModel',
    architecture=_base_.architecture,
    structure='work_dirs/fashion_mnist/search_deit/structure.json',
)
