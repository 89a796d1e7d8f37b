# Table 11: the top-k without normalisation, scores in the place of ranks.
_base_ = './search_p-minus_r50-3g.py'

rule = dict(
    type='dms_mm.PaperRule', optimizer=dict(type='dms_mm.RMSpropTF', lr=1e-4, alpha=0.9, eps=1e-3, momentum=0.9)
)
model = dict(space=dict(selector=dict(type='dms_mm.MinMaxTopk')), search=dict(rule=rule))
del rule
