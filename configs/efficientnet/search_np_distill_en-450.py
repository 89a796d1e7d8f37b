_base_ = ['./search_np_en-450.py', '../_base_/teachers/timm-efficientnet-b4-320.py']

model = dict(distillation=_base_.distillation)
