"""A model without memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..tracing.state import duplicate

__all__ = ['duplicate', 'skeleton']


def skeleton(model: nn.Module) -> nn.Module:
    """A deep copy whose parameters and buffers are on ``meta``: structure without memory."""
    memo: dict[int, Any] = {}
    for p in model.parameters():
        memo[id(p)] = nn.Parameter(torch.empty_like(p, device='meta'), requires_grad=p.requires_grad)
    for b in model.buffers():
        memo[id(b)] = torch.empty_like(b, device='meta')
    return duplicate(model, memo)
