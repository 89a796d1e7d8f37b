"""Registries of scope ``dms_mm``; imports nothing of the package.

Everything that a config may name by ``type`` is registered in one of these by its own module. Those of MMEngine's kinds
are children of MMEngine's roots. ``locations`` are imported when a registry is first asked for a name.
"""

import importlib

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import Registry


def _child(name: str, parent: Registry | None, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope='dms_mm', locations=[f'dms_mm.{place}' for place in locations])


MODELS = _child('model', MMENGINE_MODELS, 'algorithms.dms', 'models')
HOOKS = _child('hook', MMENGINE_HOOKS, 'engine')
DATASETS = _child('dataset', MMENGINE_DATASETS, 'datasets')
OPTIMIZERS = _child('optimizer', MMENGINE_OPTIMIZERS, 'engine.optimizers')
OPTIM_WRAPPER_CONSTRUCTORS = _child('optimizer wrapper constructor', MMENGINE_CONSTRUCTORS, 'engine.optimizers')
MODEL_WRAPPERS = _child('model wrapper', MMENGINE_WRAPPERS, 'engine.cpu_parallel')

# What a search is made of.
UNITS = _child('mutable unit', None, 'mutables')
RESOURCES = _child('resource', None, 'resources')
RULES = _child('search rule', None, 'algorithms.rules')
SELECTORS = _child('selector', None, 'algorithms.selectors')
# What tracing knows: operators by their ATen name, modules traced as one operator, blocks that it can't see.
OPERATORS = _child('operator rule', None, 'tracing.rules')
WHOLES = _child('whole module', None, 'tracing.wholes')
BLOCKS = _child('residual block', None, 'mutators.blocks')


def register_all() -> None:
    """Import every module that registers something; safe to call twice."""
    for registry in (
        MODELS, HOOKS, DATASETS, OPTIMIZERS, OPTIM_WRAPPER_CONSTRUCTORS, MODEL_WRAPPERS,
        UNITS, RESOURCES, RULES, SELECTORS, OPERATORS, WHOLES, BLOCKS,
    ):  # fmt: skip
        for place in registry._locations:
            importlib.import_module(place)
