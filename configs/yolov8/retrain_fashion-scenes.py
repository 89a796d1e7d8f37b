_base_ = './_fashion_scenes.py'

model = dict(
    _delete_=True,
    type='dms_mm.SlimModel',
    architecture=_base_.architecture,
    structure='work_dirs/search_np_fashion-scenes/structure.json',
)
