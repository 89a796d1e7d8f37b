_base_ = ['./retrain_en-b1.py', '../_base_/teachers/efficientnet-b3.py']

model = dict(distillation=_base_.distillation)
