_base_ = './search_np_en-b0.py'

model = dict(target=dict(macs=0.45e9))

# The paper's EN-450 takes 4 epochs.
train_cfg = dict(max_epochs=4)
