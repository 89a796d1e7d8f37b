"""What each ATen operator does to element ids: rules by operator name, in ``registry.OPERATORS`` (DESIGN 3.1).

A rule gets the ledger, the operator's output and its arguments. An elementwise operator without a rule ties what it
aligns; any other without a rule freezes what it touches.
"""

from . import (
    choosing,
    constants,
    convolution,
    indexing,
    joins,
    matrices,
    norms,
    parts,
    pointwise,
    products,
    reductions,
    regions,
    scattering,
    spatial,
    views,
)
from .table import Rule, rule

__all__ = [
    'Rule',
    'choosing',
    'constants',
    'convolution',
    'indexing',
    'joins',
    'matrices',
    'norms',
    'parts',
    'pointwise',
    'products',
    'reductions',
    'regions',
    'rule',
    'scattering',
    'spatial',
    'views',
]
