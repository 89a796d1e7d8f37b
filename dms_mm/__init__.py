"""Differentiable Model Scaling: search the width of every layer and the depth of every stage under a budget."""

from .algorithms.search import Search
from .slimming import Structure, StructureError, build_slim
from .space import SearchSpace, make_searchable
from .topk import differentiable_topk
from .tracing import TraceError

__version__ = '0.1.0'

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
