# 30 epochs of the same recipe. EMA belongs to weights that are kept; the structure's are trained anew.
_base_ = './efficientnet_450e.py'

train_cfg = dict(max_epochs=30)
custom_hooks = [dict(type='dms_mm.DMSHook', by_epoch=True), dict(type='dms_mm.SafeCheckpointHook')]
# As the authors' script: the optimizer of the weights for the ratios, too, at a rate of its own; the budget is reached
# by epochs, over the first 80% of them; in the last one blocks are hard.
search = dict(
    rule=dict(
        type='dms_mm.PaperRule',
        optimizer=dict(type='dms_mm.RMSpropTF', lr=2e-5, alpha=0.9, eps=1e-3, momentum=0.9),
    ),
    warmup=0.0,
    ramp=0.8,
    widths_only=1 / 30,
)
