_base_ = ['./retrain_en-450.py', './_teacher.py']

model = dict(distillation=_base_.distillation)
