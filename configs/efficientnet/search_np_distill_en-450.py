_base_ = ['./search_np_en-450.py', './_teacher.py']

model = dict(distillation=_base_.distillation)
