"""What a host model is traced with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def example_of(model: nn.Module, shape: Sequence[int]) -> Tensor:
    """(2, \\*shape): what the model itself gives as an example, by a method ``example``; zeros of float32 without one.

    Args:
        shape: of one sample.
    """
    own = getattr(model, 'example', None)
    return own(shape) if callable(own) else torch.zeros(2, *shape)
