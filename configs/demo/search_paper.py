# The paper's rule with the optimizer of the authors' script; the rate goes as far in 400 steps as theirs in 6,672.
_base_ = './search.py'

model = dict(
    search=dict(
        rule=dict(
            type='dms_mm.PaperRule',
            optimizer=dict(type='dms_mm.RMSpropTF', lr=3e-4, alpha=0.9, eps=1e-3, momentum=0.9),
        ),
    ),
)
