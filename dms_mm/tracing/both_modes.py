"""A trace of both modes, with a larger batch where the given one is too small for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from .dispatch import TraceError
from .findings import Trace
from .forward import trace
from .running import first_batch
from .state import State


def trace_both_modes(
    model: nn.Module, inputs: Any, forward_fn: Callable[..., Any] | None = None, state: State | None = None
) -> tuple[Trace, Any]:
    """Trace, with the batch doubled where a single sample keeps batch norms from running in training mode.

    Args:
        state: what the model and ``forward_fn`` hold now, if it is known.

    Returns:
        The trace, and the inputs that it is of.

    Raises:
        TraceError: see :func:`trace`.
    """
    traced = trace(model, inputs, forward_fn, state)
    if len(traced.calls) < 2 and first_batch(inputs) == 1:
        twice = tree_map(
            lambda x: torch.cat([x, x]) if isinstance(x, Tensor) and x.ndim and x.shape[0] == 1 else x, inputs
        )
        try:
            again = trace(model, twice, forward_fn, state)
        except TraceError:
            return traced, inputs
        if len(again.calls) == 2:
            return again, twice
    return traced, inputs
