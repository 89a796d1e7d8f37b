from .scale import Scaled
from .slim import SlimModel

__all__ = ['Scaled', 'SlimModel']
