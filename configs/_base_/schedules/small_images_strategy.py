# A search that steps no ratios: half of what 400 iterations of a search by gradients process trains the supernet, the
# rest tries structures.
_base_ = './small_images_3000it.py'

train_cfg = dict(
    type='dms_mm.StructureLoop',
    max_iters=200,
    equal_iters=400,
    held_out_pipeline=[dict(type='mmpretrain.PackInputs')],
)
param_scheduler = _base_.param_scheduler
param_scheduler[0].end = param_scheduler[1].begin = 25
param_scheduler[1].end = 200
