# After the search, a short training of three structures: uniform scaling, the found one, and one half-way.
_base_ = './search.py'

custom_hooks = [
    dict(type='dms_mm.DMSHook', candidates=dict(iters=100, held_out_pipeline=[dict(type='mmpretrain.PackInputs')])),
    dict(type='dms_mm.SafeCheckpointHook'),
]
