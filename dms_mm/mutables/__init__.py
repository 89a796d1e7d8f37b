from .units import ChannelUnit, DepthUnit, MutableUnit

__all__ = ['ChannelUnit', 'DepthUnit', 'MutableUnit']
