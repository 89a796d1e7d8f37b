"""What autograd keeps of an operator until backward: torch itself says it, on tensors without data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map

from .ledger import tensors_of
from .lifetimes import ATTENTION, Blank, Kind


@dataclass(frozen=True)
class Saved:
    """Which of the tensors among its arguments and of its results an operator keeps, and copies of which arguments: of
    what it writes over."""

    reads: list[bool]
    gives: list[bool]
    copies: list[int]


def saved_by(kind: Kind, reads: int, gives: int) -> Saved:
    """What an operator keeps; all of its tensors where it doesn't run without data."""
    if kind is not ATTENTION:
        try:
            return _tried(kind)
        except Exception:  # an operator that has no backward, or none without data
            pass
    return Saved([True] * reads, [True] * gives, [])


def _tried(kind: Kind) -> Saved:
    kept: dict[int, torch.Tensor] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage()._cdata] = x
        return x

    space, _, operator = kind.name.partition('::')
    func = getattr(getattr(getattr(torch.ops, space), operator), kind.overload)
    with torch.enable_grad():

        def full(x: Any) -> Any:
            if not isinstance(x, Blank):
                return x
            made = torch.empty(x.shape, dtype=x.dtype, device='meta', requires_grad=x.learnt)
            return made.clone()  # no leaf, so that it may be written to

        args, kwargs = tree_map(full, kind.args), tree_map(full, kind.kwargs or {})
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            results = tensors_of(func(*args, **kwargs))
    given = tensors_of((args, kwargs))
    known = [x.untyped_storage()._cdata for x in given], [x.untyped_storage()._cdata for x in results]
    others = [x.shape for key, x in kept.items() if key not in known[0] + known[1]]
    copies = [next((k for k, x in enumerate(given) if x.shape == shape), 0) for shape in others]
    return Saved([key in kept for key in known[0]], [key in kept for key in known[1]], copies)
