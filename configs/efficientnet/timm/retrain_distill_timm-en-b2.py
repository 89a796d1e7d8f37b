_base_ = ['./retrain_timm-en-b2.py', '../_teacher.py']

model = dict(distillation=_base_.distillation)
