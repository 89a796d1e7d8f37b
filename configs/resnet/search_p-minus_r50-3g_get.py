# Table 2, the gradient-estimate top-k.
_base_ = './search_p-minus_r50-3g.py'

rule = dict(
    type='dms_mm.PaperRule', optimizer=dict(type='dms_mm.RMSpropTF', lr=3e-4, alpha=0.9, eps=1e-3, momentum=0.9)
)
model = dict(space=dict(selector=dict(type='dms_mm.GET')), search=dict(rule=rule))
del rule
