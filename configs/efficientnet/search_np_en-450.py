_base_ = './search_np_en-b0.py'

model = dict(target=dict(macs=0.45e9))
train_cfg = dict(max_epochs=4)  # as the paper's EN-450
