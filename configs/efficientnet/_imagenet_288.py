_base_ = ['./_imagenet_224.py']

input_shape = (3, 288, 288)
train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = 288
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 329
test_pipeline[2].crop_size = 288
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
