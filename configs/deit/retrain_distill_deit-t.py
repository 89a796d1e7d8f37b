_base_ = ['./retrain_deit-t.py', '../_base_/teachers/regnety-160.py']

model = dict(distillation=_base_.distillation)
