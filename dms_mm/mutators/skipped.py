"""Whether a block whose branch was named by someone gives its input back without that branch: tried on numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..tracing import Trace
from ..tracing.wholes.probe import random_copy


def problem_without(model: nn.Module, trace: Trace, path: str, branch: str) -> str:
    """Why block ``path`` may not go, or nothing if its output without ``branch`` is its input.

    Tried on inputs between the bounds that the forward showed: behind a ReLU a block may rectify its sum, and behind
    anything else it may not. What can't be run alone is believed if the trace saw the sum.
    """
    block = model.get_submodule(path)
    before = trace.io[path][0] if path in trace.io else None
    if before is None or any(p.device.type == 'meta' for p in [*block.parameters(), *block.buffers()]):
        return ''
    low, high = (max(-4.0, min(4.0, b)) for b in trace.bounds.get(path, (-math.inf, math.inf)))
    trial, generator = random_copy(block)
    x = torch.rand(before[0], generator=generator, dtype=torch.float64) * (high - low) + low
    trial.get_submodule(branch[len(path) + 1 :]).register_forward_hook(_nothing)
    try:
        with torch.no_grad():
            out = trial(x.clone())
    except Exception:  # it takes more than one tensor
        return ''
    out = out[0] if isinstance(out, (tuple, list)) else out
    if isinstance(out, Tensor) and out.shape == x.shape and torch.allclose(out, x, rtol=1e-6, atol=1e-6):
        return ''
    return f'block {path!r} stays, because without its branch {branch!r} it does not give its input'


def _nothing(module: nn.Module, args: Any, out: Any) -> Any:
    return (out[0] * 0, *out[1:]) if isinstance(out, tuple) else out * 0
