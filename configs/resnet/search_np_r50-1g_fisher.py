# Table 6: importance by Fisher.
_base_ = './search_np_r50-1g.py'

model = dict(search=dict(score='fisher'))
