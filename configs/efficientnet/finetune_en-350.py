_base_ = './finetune_en-b0.py'

model = dict(
    structure='work_dirs/search_p_en-350/structure.json',
    checkpoint='work_dirs/search_p_en-350/slim.pth',
)
