# The kept weights of DMS_p at 1G, trained on as at 1.6G.
_base_ = './finetune_r50-1.6g.py'

model = dict(
    structure='work_dirs/search_p_r50-1g/structure.json',
    checkpoint='work_dirs/search_p_r50-1g/slim.pth',
)
