_base_ = ['./retrain_timm-en-b1.py', '../_teacher.py']

model = dict(distillation=_base_.distillation)
