"""Forwards on real numbers that go the way of another: what equals up to rounding may still be sorted otherwise.

Scores of a detector tie, and the last digit says which comes first. So a slim model's choices are those of the masked
one, as long as they are its own up to rounding; what it makes of them is compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..tracing import Trace, Tracer
from ..tracing.decisions import DECIDING, Decisions, Lists, Results, by_positions
from ..tracing.modules import module_stack

SORTING = {f'aten::{name}' for name in ('sort', 'topk', 'argmax', 'argmin', 'max', 'min')}


class _Chosen(TorchDispatchMode):
    """Notes every choice, or follows those that were noted."""

    def __init__(self, tracer: Tracer, decisions: Decisions, rounding: float) -> None:
        super().__init__()
        self.tracer, self.decisions, self.rounding = tracer, decisions, rounding

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, where = func._schema.name, self.tracer.ledger.where()
        if name == 'aten::index':
            with self:
                positions = by_positions(args[1])
            args = args if positions is None else (args[0], positions)
        out = func(*args, **kwargs)
        sorts = name in SORTING and (isinstance(out, tuple) or name.startswith('aten::arg'))
        if not sorts and name not in DECIDING:
            return out
        if self.decisions.recording:
            self.decisions.note(where, name, out)
            return out
        noted = self.decisions.next(where, name)
        if noted is None:
            return out
        given = dict(zip((a.name for a in func._schema.arguments), args)) | kwargs
        return (
            _sorted_as(out, noted, given['self'], given.get('dim', -1), self.rounding)
            if sorts
            else _as_noted(name, out, noted)
        )


def _as_noted(name: str, out: Any, noted: Any) -> Any:
    """Positions have to be the same; how many of equal boxes are left, and numbers, are as they were noted."""
    if name == 'aten::nonzero' and not torch.equal(out.cpu(), noted):
        raise ChoiceError(f'{len(out)} positions are chosen, or others, where it was {len(noted)}')
    if isinstance(out, Tensor) and not out.is_floating_point() and isinstance(noted, Tensor):
        return noted.to(out.device)
    return noted if isinstance(out, (int, bool)) and not isinstance(noted, float) else out


def _sorted_as(out: Any, noted: Any, x: Tensor, dim: int | None, rounding: float) -> Any:
    """Values in the noted order, which is the right one up to rounding."""
    own, place = (out[1], noted[1]) if isinstance(out, tuple) else (out, noted)
    if own.shape != place.shape:
        return out  # of fewer channels, each by itself
    place = place.to(own.device)
    line, along = (x.reshape(-1), 0) if dim is None else (x, dim)
    wide = own.reshape(1) if dim is None else own if own.ndim == x.ndim else own.unsqueeze(along)
    wanted, values = line.gather(along, wide), line.gather(along, place.reshape(wide.shape))
    finite = x[x.isfinite()]
    if finite.numel() and bool(((values - wanted).nan_to_num().abs() > rounding * finite.abs().max()).any()):
        raise ChoiceError('what is sorted comes in another order')
    return (values.reshape(out[0].shape), place) if isinstance(out, tuple) else place


class ChoiceError(RuntimeError):
    """A slim model chooses otherwise than the masked one."""


@contextlib.contextmanager
def choices(model: nn.Module, noted: Results | None, rounding: float) -> Iterator[Results]:
    """Inside, forwards of ``model`` make the choices ``noted``, or fail; without any, what they choose is noted.

    Args:
        rounding: of the largest value among those that are sorted: less apart, either may come first.

    Raises:
        ChoiceError: a choice is not the model's own.
    """
    decisions = Decisions(noted, recording=noted is None)
    tracer = Tracer(Trace(), False, lambda call: None)
    with module_stack(model, tracer), Lists(), _Chosen(tracer, decisions, rounding):
        yield decisions.results
