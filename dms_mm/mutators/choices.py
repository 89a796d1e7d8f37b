"""Masks of what a model chooses among: their logarithms are added to scores, and shares are multiplied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..tracing.asking import asked_for
from .products import Fold

LEAST = 1e-30  # of a mask that is not zero: its logarithm has a gradient


def log_mask(mask: Tensor) -> Tensor:
    """``log(m)``: of a mask of zero minus infinity, and without a gradient."""
    return torch.where(mask > 0, mask.clamp_min(LEAST).log(), -torch.inf)


def masked_scores(x: Tensor, mask: Tensor, way: str) -> Tensor:
    """Scores (..., n) by masks (n,): ``'add'`` logarithms, ``'multiply'`` what is positive, or ``'bar'`` what is dead.

    In each way a mask of zero makes a score minus infinity.
    """
    if way == 'add':
        return x + log_mask(mask).to(x.dtype)
    return torch.where(mask > 0, x * mask.to(x.dtype) if way == 'multiply' else x, -torch.inf)


class ScoreMasks(TorchFunctionMode):
    """Masks the scores of one forward."""

    def __init__(self, masks: Mapping[tuple[str, int, int], tuple[Fold, str]]) -> None:
        super().__init__()
        self.masks = masks
        self.seen: dict[tuple[str, int], int] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        asked = asked_for(func, args, kwargs)
        if asked is not None:
            nth = self.seen[asked] = self.seen.get(asked, -1) + 1
            found = self.masks.get((*asked, nth))
            if found is not None:
                fold, way = found
                x = args[0] if args else kwargs.pop('input')
                args = (masked_scores(x, fold(x.new_ones(x.shape[-1])), way), *args[1:])
        return func(*args, **kwargs)
