from .grids import check_counts, check_ties_stay, settle_grids
from .ownership import Ownership, all_live, make_ownership
from .selector import build_selector
from .units import ChannelUnit, DepthUnit, ExpertUnit, HeadDimUnit, HeadUnit, MutableUnit

__all__ = [
    'ChannelUnit',
    'DepthUnit',
    'ExpertUnit',
    'HeadDimUnit',
    'HeadUnit',
    'MutableUnit',
    'Ownership',
    'all_live',
    'build_selector',
    'check_counts',
    'check_ties_stay',
    'make_ownership',
    'settle_grids',
]
