# Table 2, multiple element selection: a gate for every element.
_base_ = './search_p-minus_r50-3g.py'

rule = dict(type='dms_mm.PaperRule', optimizer=dict(type='Adam', lr=0.02))
model = dict(space=dict(selector=dict(type='dms_mm.MES')), search=dict(rule=rule))
del rule
