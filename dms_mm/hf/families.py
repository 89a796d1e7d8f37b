"""Configurations and models of families whose layers may differ, by a ``model_type`` of their own."""

from __future__ import annotations

import copy
import functools
import importlib
from typing import Any, NamedTuple

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from .layers import by_number

# model_type -> prefix of its classes, in transformers.models.<model_type>
FAMILIES = {
    'llama': 'Llama',
    'mistral': 'Mistral',
    'qwen2': 'Qwen2',
    'qwen3': 'Qwen3',
    'gemma2': 'Gemma2',
    'phi': 'Phi',
}
PREFIX = 'dms_'


class Family(NamedTuple):
    config: type[PreTrainedConfig]
    model: type[PreTrainedModel]


@functools.cache
def family(model_type: str) -> Family:
    """The classes of a family whose layers may differ.

    Raises:
        ValueError: there are none for this ``model_type``.
    """
    if model_type not in FAMILIES:
        raise ValueError(
            f'layers of {model_type!r} can not differ in a file of transformers yet; families that can: '
            f'{", ".join(FAMILIES)}. With equal widths in all layers (`tie`) the plain architecture says them'
        )
    name = FAMILIES[model_type]
    host = importlib.import_module(f'transformers.models.{model_type}')
    modeling = importlib.import_module(f'transformers.models.{model_type}.modeling_{model_type}')
    by_number(getattr(modeling, f'{name}DecoderLayer'))
    content = dict(
        model_type=PREFIX + model_type,
        # Heads need not fill the stream, as the plain configuration wants it.
        validate_architecture=lambda self: None,
        __module__=__name__,
    )
    config = strict(type(f'Dms{name}Config', (getattr(host, f'{name}Config'),), content))
    model = type(
        f'Dms{name}ForCausalLM', (getattr(host, f'{name}ForCausalLM'),), dict(config_class=config, __module__=__name__)
    )
    globals().update({config.__name__: config, model.__name__: model})  # pickles find them
    return Family(config, model)


def register() -> None:
    """Make all families known to ``AutoConfig`` and ``AutoModelForCausalLM``; again, nothing."""
    for model_type in FAMILIES:
        found = family(model_type)
        AutoConfig.register(PREFIX + model_type, found.config, exist_ok=True)
        AutoModelForCausalLM.register(found.config, found.model, exist_ok=True)


def plain_type(config: Any) -> str:
    """The ``model_type`` of the plain architecture, of a configuration of either kind."""
    return config.model_type.removeprefix(PREFIX)


def plain_config(config: Any) -> Any:
    """A copy as one of the plain architecture, whose layers are all alike."""
    copied = copy.deepcopy(config)
    if not config.model_type.startswith(PREFIX):
        return copied
    copied.per_layer_config = None
    content = {k: v for k, v in copied.to_dict().items() if k not in ('model_type', 'per_layer_config')}
    plain = AutoConfig.for_model(plain_type(config), **content)
    plain._attn_implementation = config._attn_implementation
    return plain


def plain_class(model: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The class of the plain architecture, of a class of either kind."""
    return model.__bases__[0] if model.__module__ == __name__ else model  # type: ignore[return-value]
