# Table 6: importance by the static order of indices.
_base_ = './search_np_r50-1g.py'

model = dict(search=dict(score='index'))
