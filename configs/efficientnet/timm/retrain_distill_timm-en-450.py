_base_ = ['./retrain_timm-en-450.py', '../_teacher.py']

model = dict(distillation=_base_.distillation)
