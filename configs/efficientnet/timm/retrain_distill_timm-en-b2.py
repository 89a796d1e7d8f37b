_base_ = ['./retrain_timm-en-b2.py', '../../_base_/teachers/efficientnet-b3.py']

model = dict(distillation=_base_.distillation)
