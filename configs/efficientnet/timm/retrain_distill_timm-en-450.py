_base_ = ['./retrain_timm-en-450.py', '../../_base_/teachers/efficientnet-b3.py']

model = dict(distillation=_base_.distillation)
