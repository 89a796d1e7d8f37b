_base_ = ['./_supernet.py']

model = dict(
    _delete_=True,
    type='dms_mm.SlimModel',
    architecture=_base_.architecture,
    structure='work_dirs/search_np_mbv2/structure.json',
)
