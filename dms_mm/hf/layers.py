"""Decoder layers built by the configuration of their own number."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

# Sub-layers that ``skip`` may name, and where decoder layers keep them.
SUBLAYERS = {'attention': ('self_attn', 'attention'), 'mlp': ('mlp',)}


class NoAttention(nn.Module):
    """In the place of an attention that is left out: adds nothing to the stream.

    Its keys and values in a cache have no elements, but a length: models ask the first layer how far a text has come.
    """

    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        cache = kwargs.get('cache', kwargs.get('past_key_values'))
        if cache is not None:
            batch, length, _ = hidden_states.shape
            nothing = hidden_states.new_zeros(batch, 1, length, 0)
            cache.update(nothing, nothing, self.layer_idx)
        return torch.zeros_like(hidden_states), None


class NoMLP(nn.Module):
    """In the place of a feed-forward network that is left out."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return torch.zeros_like(hidden_states)


def by_number(layer_class: type[nn.Module]) -> None:
    """Let a decoder layer of a heterogeneous configuration go by its own entry of ``per_layer_config``.

    Layers of other configurations are built as ever; a second call changes nothing.
    """
    init: Any = layer_class.__init__
    if getattr(init, 'by_number', False):
        return

    @functools.wraps(init)
    def build(self: nn.Module, config: Any, layer_idx: int, *args: Any, **kwargs: Any) -> None:
        if not config.is_heterogeneous:
            init(self, config, layer_idx, *args, **kwargs)
            return
        own = config.per_layer_config[layer_idx]
        init(self, own, layer_idx, *args, **kwargs)
        for name in own.skip:
            leave_out(self, name, layer_idx)
        # What is set for the whole model later, such as the kernel of the attention, holds for every layer.
        for module in self.modules():
            if getattr(module, 'config', None) is own:
                module.config = config

    build.by_number = True  # type: ignore[attr-defined]
    layer_class.__init__ = build  # type: ignore[method-assign]


def leave_out(layer: nn.Module, name: str, layer_idx: int) -> None:
    """Put a module that adds nothing in the place of a sub-layer of decoder layer ``layer_idx``.

    Raises:
        ValueError: ``name`` is none of :data:`SUBLAYERS`, or the layer has no such child.
    """
    place = next((place for place in SUBLAYERS.get(name, ()) if hasattr(layer, place)), None)
    if place is None:
        raise ValueError(f'a {type(layer).__name__} has no sub-layer {name!r} to skip; known are {sorted(SUBLAYERS)}')
    setattr(layer, place, NoAttention(layer_idx) if name == 'attention' else NoMLP())
