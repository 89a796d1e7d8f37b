from .ownership import Ownership, all_live, make_ownership
from .selector import build_selector
from .units import ChannelUnit, DepthUnit, HeadDimUnit, HeadUnit, MutableUnit

__all__ = [
    'ChannelUnit',
    'DepthUnit',
    'HeadDimUnit',
    'HeadUnit',
    'MutableUnit',
    'Ownership',
    'all_live',
    'build_selector',
    'make_ownership',
]
