_base_ = ['./retrain_en-b2.py', '../_teacher.py']

model = dict(distillation=_base_.distillation)
