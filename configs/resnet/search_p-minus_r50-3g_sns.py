# Table 2, single number selection: a softmax over the counts of each unit.
_base_ = './search_p-minus_r50-3g.py'

rule = dict(type='dms_mm.PaperRule', optimizer=dict(type='Adam', lr=0.1))
model = dict(space=dict(selector=dict(type='dms_mm.SNS')), search=dict(rule=rule))
del rule
