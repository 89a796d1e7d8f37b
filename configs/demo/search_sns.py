# Single number selection: a softmax over the counts of each unit.
_base_ = './search.py'

model = dict(
    space=dict(selector=dict(type='dms_mm.SNS')),
    search=dict(rule=dict(type='dms_mm.PaperRule', optimizer=dict(type='Adam', lr=0.1))),
)
