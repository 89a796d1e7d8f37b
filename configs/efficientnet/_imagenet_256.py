_base_ = ['./_imagenet_224.py']

input_shape = (3, 256, 256)
train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = 256
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = 293
test_pipeline[2].crop_size = 256
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
