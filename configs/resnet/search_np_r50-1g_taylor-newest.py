# Table 6: importance by Taylor of the newest step, no moving average.
_base_ = './search_np_r50-1g.py'

model = dict(search=dict(decay=0.0))
