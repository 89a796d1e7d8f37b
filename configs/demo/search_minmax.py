# The differentiable top-k without normalisation: scores in the place of ranks.
_base_ = './search.py'

model = dict(
    space=dict(selector=dict(type='dms_mm.MinMaxTopk')),
    search=dict(
        rule=dict(
            type='dms_mm.PaperRule', optimizer=dict(type='dms_mm.RMSpropTF', lr=1e-4, alpha=0.9, eps=1e-3, momentum=0.9)
        )
    ),
)
