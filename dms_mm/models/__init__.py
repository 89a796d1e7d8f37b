from .language import CausalLM
from .scale import Scaled
from .slim import SlimModel

__all__ = ['CausalLM', 'Scaled', 'SlimModel']
