_base_ = './_supernet.py'

model = _base_.architecture
