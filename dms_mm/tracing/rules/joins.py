"""Operators that put tensors side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ledger import Axes, Ledger
from .layout import align, moved, tie, union_makers, wrap
from .table import rule


@rule('cat', 'concat')
def cat(ledger: Ledger, out: Any, tensors: Sequence[Any], dim: int = 0) -> None:
    dim = wrap(dim, out.ndim)
    tensors = [x for x in tensors if x.ndim == out.ndim]
    result: Axes = []
    for d in range(out.ndim):
        lists = [ledger.along(x, d) for x in tensors]
        if not any(lists):
            continue
        if d != dim:
            result += [(d, ids) for ids in align(ledger, lists, 'a concatenation with a fixed tensor')]
            continue
        parts = []
        for x, entries in zip(tensors, lists):
            if entries:
                parts.append(ledger.elements.fuse(entries))
            else:
                fresh = ledger.elements.new(x.shape[d])
                ledger.elements.freeze(fresh, 'part of a concatenation that nothing prunes')
                parts.append(fresh)
        result.append((d, np.concatenate(ledger.gated(tensors, parts))))
    # A piece without elements along other dimensions has nothing to be zero.
    ledger.put(out, result, None, union_makers(ledger, [x for x in tensors if ledger.entries(x)]))


@rule('stack')
def stack(ledger: Ledger, out: Any, tensors: Sequence[Any], dim: int = 0) -> None:
    dim = wrap(dim, out.ndim)
    entries = tie(ledger, tensors, 'a stack with a fixed tensor')
    ledger.put(out, moved(entries, [d + (d >= dim) for d in range(out.ndim - 1)]), None, union_makers(ledger, tensors))


@rule('constant_pad_nd', 'reflection_pad1d', 'reflection_pad2d', 'replication_pad1d', 'replication_pad2d')
def pad(ledger: Ledger, out: Any, x: Any, padding: Sequence[int], *args: Any) -> None:
    result: Axes = []
    for d, ids in ledger.axes(x):
        k = 2 * (x.ndim - 1 - d)
        before, after = (padding[k], padding[k + 1]) if k + 1 < len(padding) else (0, 0)
        if before or after:
            if before < 0 or after < 0:
                ledger.freeze([(d, ids)], 'a negative padding')
                continue
            fresh = ledger.elements.new(before + after)
            ledger.elements.freeze(fresh, 'zeros padded to the channels')
            ids = np.concatenate([fresh[:before], ids, fresh[before:]])
        result.append((d, ids))
    ledger.put(out, result)
