"""Copies of a model: as it is, or without memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..tracing.state import State


def skeleton(model: nn.Module) -> nn.Module:
    """A deep copy whose parameters and buffers are on ``meta``: structure without memory."""
    memo: dict[int, Any] = {}
    for p in model.parameters():
        memo[id(p)] = nn.Parameter(torch.empty_like(p, device='meta'), requires_grad=p.requires_grad)
    for b in model.buffers():
        memo[id(b)] = torch.empty_like(b, device='meta')
    return duplicate(model, memo)


def duplicate(model: nn.Module, memo: Mapping[int, Any] | None = None) -> nn.Module:
    """A deep copy; of what the model keeps of a graph, the values alone.

    Args:
        memo: identity of an object -> what stands for it in the copy.
    """
    try:
        return copy.deepcopy(model, dict(memo or {}))
    except RuntimeError:
        # Torch refuses to copy activations that have a graph, as a model may keep of its last forward.
        kept = {id(x): x.detach().clone() for x in State(model).tensors if not x.is_leaf}
        if not kept:
            raise
        return copy.deepcopy(model, {**kept, **(memo or {})})
