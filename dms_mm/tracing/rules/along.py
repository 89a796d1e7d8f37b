"""Operators that act along some dimensions of a tensor and pass the others: one line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ledger import Ledger, tensors_of
from .layout import dims_of, moved, parted
from .table import Rule

# The dimensions that an operator acts along, by its first tensor and its other arguments.
Where = Callable[..., set[int]]


def last(count: int) -> Where:
    """The last dimensions, with or without a batch before them."""
    return lambda x, *args, **kwargs: set(range(max(0, x.ndim - count), x.ndim))


def given(place: int = 0, name: str = 'dim', default: Any = None) -> Where:
    """Those of an argument: its place behind the tensor, its name and what it is if left out. None means all."""

    def where(x: Any, *args: Any, **kwargs: Any) -> set[int]:
        return dims_of(kwargs.get(name, args[place] if place < len(args) else default), x.ndim)

    return where


def act_along(
    ledger: Ledger, out: Any, x: Any, dims: set[int], reason: str, zero: bool = False, mix: bool = False
) -> None:
    """Freeze what an operator acts along; the rest passes to each of its results.

    Args:
        dims: results have them too, in other lengths, or lack them.
        zero: of zeros along ``dims`` it makes zeros.
        mix: its module may turn out to run on what lives alone.
    """
    gone, rest = parted(ledger, x, dims)
    (ledger.mix if mix else ledger.freeze)(gone, reason)
    for result in tensors_of(out):
        if result.ndim >= x.ndim:
            to = list(range(x.ndim))
        else:
            to = [d - sum(g < d for g in dims) for d in range(x.ndim)]
        if any(result.ndim <= to[d] or result.shape[to[d]] != x.shape[d] for own, _ in rest for d in own):
            ledger.freeze(rest, f'a result of another shape, of {reason}')
            continue
        numbers = result.is_floating_point() or result.is_complex()
        copies = {to[d] for d in ledger.free(x) if d not in dims}
        ledger.put(result, moved(rest, to), None, ledger.makers(x) if zero and numbers else None, copies)


def along(where: Where, reason: str, zero: bool = False, mix: bool = False) -> Rule:
    """A rule by :func:`act_along`."""

    def rule(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
        act_along(ledger, out, x, where(x, *args, **kwargs), reason, zero, mix)

    return rule
