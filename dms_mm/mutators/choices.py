"""Masks of what a model chooses among: their logarithms are added to the scores."""

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


class LogMasks(TorchFunctionMode):
    """Adds the logarithms of masks to the scores of one forward."""

    def __init__(self, masks: Mapping[tuple[str, int, int], Fold]) -> None:
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
            fold = self.masks.get((*asked, nth))
            if fold is not None:
                x = args[0] if args else kwargs.pop('input')
                scores = x + log_mask(fold(x.new_ones(x.shape[-1]))).to(x.dtype)
                args = (scores, *args[1:])
        return func(*args, **kwargs)
