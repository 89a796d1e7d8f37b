_base_ = 'mmpretrain::_base_/models/resnet101.py'

model = dict(_delete_=True, architecture=_base_.model)
