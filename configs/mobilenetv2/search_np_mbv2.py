_base_ = ['./_supernet.py']

model = dict(
    _delete_=True,
    type='dms_mm.DMS',
    architecture=_base_.architecture,
    input_shape=(3, 224, 224),
    target=dict(macs=0.3e9),
)
train_cfg = dict(max_epochs=30)
custom_hooks = [dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
