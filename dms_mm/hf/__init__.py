"""Slim language models as files of Hugging Face transformers; needs torch and transformers alone.

Widths that are equal over all layers are said by the model's own configuration, and such a folder loads wherever the
model does. Widths that differ are said by ``per_layer_config``, which transformers' models don't build by themselves:
those folders have a ``model_type`` of their own, which ``import dms_mm.hf`` makes known to ``AutoConfig`` and
``AutoModelForCausalLM``. Without that import, transformers refuses them.
"""

from .families import FAMILIES, register
from .save import save_slim

__all__ = ['FAMILIES', 'register', 'save_slim']

register()
