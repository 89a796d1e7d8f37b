_base_ = ['./retrain_timm-en-350.py', '../_teacher.py']

model = dict(distillation=_base_.distillation)
