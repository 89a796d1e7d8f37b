from .units import ChannelUnit, DepthUnit, HeadDimUnit, HeadUnit, MutableUnit

__all__ = ['ChannelUnit', 'DepthUnit', 'HeadDimUnit', 'HeadUnit', 'MutableUnit']
