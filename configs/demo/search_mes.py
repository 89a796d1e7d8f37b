# Multiple element selection: a gate for every element.
_base_ = './search.py'

model = dict(
    space=dict(selector=dict(type='dms_mm.MES')),
    search=dict(rule=dict(type='dms_mm.PaperRule', optimizer=dict(type='Adam', lr=0.02))),
)
