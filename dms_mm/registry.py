"""Registries of scope ``dms_mm``, children of MMEngine's roots.

Everything that a config may name is registered here or on import of :func:`register_all`. The lower layers (up to
slimming) know no MMEngine, so their classes are registered from here.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import Registry

from .mutables import ChannelUnit, DepthUnit
from .mutators.blocks import BLOCKS
from .resources import ResourceModel

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='dms_mm', locations=['dms_mm.algorithms.dms', 'dms_mm.models'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='dms_mm', locations=['dms_mm.engine'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='dms_mm', locations=['dms_mm.datasets'])
OPTIMIZERS = Registry('optimizer', parent=MMENGINE_OPTIMIZERS, scope='dms_mm', locations=['dms_mm.engine.optimizers'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_CONSTRUCTORS,
    scope='dms_mm',
    locations=['dms_mm.engine.optimizers'],
)
MODEL_WRAPPERS = Registry(
    'model wrapper', parent=MMENGINE_WRAPPERS, scope='dms_mm', locations=['dms_mm.engine.cpu_parallel']
)
UNITS = Registry('mutable unit', scope='dms_mm')
RESOURCES = Registry('resource', scope='dms_mm')

UNITS.register_module(name='channel', module=ChannelUnit)
UNITS.register_module(name='depth', module=DepthUnit)
RESOURCES.register_module(name='macs', module=ResourceModel)
RESOURCES.register_module(name='params', module=ResourceModel, force=True)

__all__ = [
    'BLOCKS', 'DATASETS', 'HOOKS', 'MODELS', 'MODEL_WRAPPERS', 'OPTIMIZERS', 'RESOURCES', 'UNITS', 'register_all',
]  # fmt: skip


def register_all() -> None:
    """Import every module that registers something; safe to call twice."""
    import dms_mm.algorithms.dms
    import dms_mm.datasets
    import dms_mm.engine
    import dms_mm.engine.cpu_parallel
    import dms_mm.engine.optimizers
    import dms_mm.models  # noqa: F401
