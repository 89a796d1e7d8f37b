"""Operators that put tensors side by side, or numbers around one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..findings import Axes, Entries
from ..ledger import Ledger
from .layout import join, union_makers, wrap
from .table import rule
from .zeros import zero_makers


@rule('cat')
def cat(ledger: Ledger, out: Any, tensors: Sequence[Any], dim: int = 0) -> None:
    dim = wrap(dim, out.ndim)
    tensors = [x for x in tensors if x.ndim == out.ndim and x.numel()]
    places = [None if d == dim else d for d in range(out.ndim)]
    lists = [ledger.along(x, dim) for x in tensors]
    entries, copies = join(ledger, [(x, places) for x in tensors], 'a concatenation with a fixed tensor')
    parts = []
    for x, own in zip(tensors, lists) if any(lists) else ():
        if own:
            parts.append(ledger.elements.fuse(own))
        else:
            fresh = ledger.elements.new(x.shape[dim])
            ledger.elements.freeze(fresh, 'part of a concatenation that nothing prunes')
            parts.append(fresh)
    makers = _all_zero(ledger, [x for x in tensors if ledger.entries(x)], places, entries)
    if parts:
        entries = [*entries, ((dim,), np.concatenate(ledger.gated(tensors, parts)))]
    ledger.put(out, entries, None, makers, copies)


def _all_zero(
    ledger: Ledger, tensors: Sequence[Any], places: Sequence[int | None], entries: Entries
) -> frozenset[str] | None:
    """What makes all pieces zero, if all of them carry what the result does."""
    operands = [(x, places) for x in tensors]
    if entries:
        return zero_makers(ledger, operands, entries, [frozenset(range(len(tensors)))])
    return union_makers(ledger, tensors)


@rule('stack')
def stack(ledger: Ledger, out: Any, tensors: Sequence[Any], dim: int = 0) -> None:
    dim = wrap(dim, out.ndim)
    places = [d + (d >= dim) for d in range(out.ndim - 1)]
    entries, copies = join(ledger, [(x, places) for x in tensors], 'a stack with a fixed tensor')
    ledger.put(out, entries, None, _all_zero(ledger, tensors, places, entries), copies)


@rule('constant_pad_nd')
def pad(ledger: Ledger, out: Any, x: Any, padding: Sequence[int], value: float = 0) -> None:
    result: Axes = []
    for d, ids in ledger.axes(x):
        k = 2 * (x.ndim - 1 - d)
        before, after = (padding[k], padding[k + 1]) if k + 1 < len(padding) else (0, 0)
        if before < 0 or after < 0:
            ledger.freeze([(d, ids)], 'a negative padding')
            continue
        if before or after:
            fresh = ledger.elements.new(before + after)
            ledger.elements.freeze(fresh, 'zeros padded to the channels')
            ids = np.concatenate([fresh[:before], ids, fresh[before:]])
        result.append((d, ids))
    # The numbers around stand at dead positions of other dimensions, too.
    ledger.put(out, result, None, ledger.makers(x) if value == 0 else None)
