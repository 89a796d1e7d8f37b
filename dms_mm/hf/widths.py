"""What the configuration of a decoder layer has to say, read off a slim layer."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from .layers import SUBLAYERS, NoAttention, NoMLP


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers of a causal language model, those that are gone included."""
    found = getattr(model.get_decoder(), 'layers', None)
    if not isinstance(found, nn.ModuleList):
        raise ValueError(f'{type(model).__name__} has no list of decoder layers called `layers`')
    return found


def is_gone(layer: nn.Module) -> bool:
    """A block that a structure removed passes on what it gets."""
    return not any(True for _ in layer.parameters())


def stream_width(model: PreTrainedModel) -> int:
    return int(model.get_input_embeddings().weight.shape[1])


def layer_widths(layer: nn.Module, config: Any, index: int) -> dict[str, Any]:
    """Heads, their size, key/value heads and the width of the feed-forward network, as a configuration calls them.

    Raises:
        ValueError: names the layer in which projections are fused or called otherwise.
    """
    found: dict[str, Any] = {}
    skip = []
    # Where a sub-layer is left out, widths that no other layer has make a reader fail that knows no `skip`.
    attention, mlp = (
        next((getattr(layer, place) for place in places if hasattr(layer, place)), None)
        for places in SUBLAYERS.values()
    )
    if attention is None or mlp is None:
        raise ValueError(f'decoder layer {index}, a {type(layer).__name__}, has no `self_attn` or no `mlp`')
    if isinstance(attention, NoAttention):
        skip.append('attention')
        found.update(num_attention_heads=1, num_key_value_heads=1)
    else:
        query, key = getattr(attention, 'q_proj', None), getattr(attention, 'k_proj', None)
        if query is None or key is None:
            raise ValueError(f'the attention of decoder layer {index} has no q_proj and k_proj to count heads by')
        size = attention.head_dim
        found.update(
            head_dim=size,
            num_attention_heads=query.weight.shape[0] // size,
            num_key_value_heads=key.weight.shape[0] // size,
        )
    if isinstance(mlp, NoMLP):
        skip.append('mlp')
        found['intermediate_size'] = 1
    else:
        wide = next((getattr(mlp, name) for name in ('up_proj', 'fc1') if hasattr(mlp, name)), None)
        if wide is None:
            raise ValueError(f'the feed-forward network of decoder layer {index} has no up_proj or fc1')
        found['intermediate_size'] = wide.weight.shape[0]
    if skip:
        found['skip'] = skip
    return found
