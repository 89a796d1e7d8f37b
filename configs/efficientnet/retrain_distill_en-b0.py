_base_ = ['./retrain_en-b0.py', '../_base_/teachers/efficientnet-b3.py']

model = dict(distillation=_base_.distillation)
