# Table 6: importance by SNIP.
_base_ = './search_np_r50-1g.py'

model = dict(search=dict(score='snip'))
