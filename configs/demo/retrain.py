# The found structure from scratch: the host's own class, slim.
_base_ = ['./_data.py', './_schedule.py', './_supernet.py']

model = dict(
    type='dms_mm.SlimModel',
    architecture=_base_.architecture,
    structure='work_dirs/demo/search/structure.json',
)
