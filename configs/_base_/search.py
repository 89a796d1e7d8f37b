# What every search adds to a training config. Set model.architecture, model.target and model.input_shape.
custom_hooks = [dict(type='dms_mm.DMSHook'), dict(type='dms_mm.SafeCheckpointHook')]
