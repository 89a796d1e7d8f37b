"""Differentiable Model Scaling: search the width of every layer and the depth of every stage under a budget.

Names are loaded when they are first used, so that a submodule which needs torch alone imports with torch alone.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .algorithms.search import Search
    from .slimming import Structure, StructureError, build_slim
    from .space import SearchSpace, make_searchable
    from .topk import differentiable_topk
    from .tracing import TraceError

__version__ = '0.1.0'

_PLACES = {
    'Search': 'algorithms.search',
    'SearchSpace': 'space',
    'Structure': 'slimming',
    'StructureError': 'slimming',
    'TraceError': 'tracing',
    'build_slim': 'slimming',
    'differentiable_topk': 'topk',
    'make_searchable': 'space',
}

__all__ = [
    'Search',
    'SearchSpace',
    'Structure',
    'StructureError',
    'TraceError',
    'build_slim',
    'differentiable_topk',
    'make_searchable',
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(f'{__name__}.{_PLACES[name]}'), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
