from .ownership import Ownership, all_live, make_ownership
from .units import ChannelUnit, DepthUnit, HeadDimUnit, HeadUnit, MutableUnit

__all__ = [
    'ChannelUnit',
    'DepthUnit',
    'HeadDimUnit',
    'HeadUnit',
    'MutableUnit',
    'Ownership',
    'all_live',
    'make_ownership',
]
