"""The algebra of axes that rules share: reshapes, cuts, and ties of what an operator aligns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..elements import IntArray
from ..ledger import Axes, Entries, Ledger


def wrap(dim: int, ndim: int) -> int:
    return dim + ndim if dim < 0 else dim


def dims_of(dims: int | Sequence[int] | None, ndim: int) -> set[int]:
    if dims is None:
        return set(range(ndim))
    if isinstance(dims, int):
        dims = [dims]
    return {wrap(d, ndim) for d in dims} if len(dims) else set(range(ndim))


def reshape_blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    """Smallest runs of old dimensions that hold as many positions as runs of new ones, left to right."""
    blocks = []
    i = j = 0
    while i < len(old) or j < len(new):
        i0, j0 = i, j
        a = b = 1
        if i < len(old):
            a, i = old[i], i + 1
        if j < len(new):
            b, j = new[j], j + 1
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
            else:
                b, j = b * new[j], j + 1
        blocks.append((range(i0, i), range(j0, j)))
    return blocks


def view_entries(ledger: Ledger, entries: Entries, old: Sequence[int], new: Sequence[int]) -> Entries:
    if 0 in old:
        ledger.freeze(entries, 'a reshape of an empty tensor')
        return []
    result: Entries = []
    blocks = reshape_blocks([int(s) for s in old], [int(s) for s in new])
    for dims, ids in entries:
        used = [b for b in blocks if any(d in b[0] for d in dims)]
        rows = [r for b in used for r in b[0]]
        columns = [c for b in used for c in b[1]]
        shape = [int(old[r]) if r in dims else 1 for r in rows]
        full = np.broadcast_to(ids.reshape(shape), [old[r] for r in rows]).reshape([new[c] for c in columns])
        varying = [d for d in range(full.ndim) if full.shape[d] > 1 and (full.take([0], d) != full).any()]
        if not varying:
            if ids.size > 1:
                ledger.freeze([(dims, ids)], 'a reshape of channels that are all tied together')
            continue
        line = np.ascontiguousarray(full[tuple(slice(None) if d in varying else 0 for d in range(full.ndim))])
        if len(varying) > 1:
            ledger.elements.boxes.append((line, None))
        result.append((tuple(columns[d] for d in varying), line))
    return result


def moved(entries: Entries, to: Sequence[int | None]) -> Entries:
    """Entries after their dimension ``d`` went to ``to[d]``."""
    result: Entries = []
    for dims, ids in entries:
        places = [to[d] for d in dims]
        order = sorted(range(len(dims)), key=lambda k: places[k])  # type: ignore[arg-type, return-value]
        result.append((tuple(places[k] for k in order), ids.transpose(order)))  # type: ignore[misc]
    return result


def cut(ledger: Ledger, entries: Entries, dim: int, piece: slice | int) -> Entries:
    """Entries of a part along ``dim``; of ids over several dimensions the others go on alone."""
    result: Entries = []
    for dims, ids in entries:
        if dim not in dims:
            result.append((dims, ids))
            continue
        k = dims.index(dim)
        part = ids[tuple(piece if e == k else slice(None) for e in range(ids.ndim))]
        if len(dims) > 1:
            ledger.elements.boxes.append((ids, k))
        result.append((dims[:k] + dims[k + 1 :] if isinstance(piece, int) else dims, part))
    return result


def align(ledger: Ledger, lists: Sequence[list[IntArray]], reason: str) -> list[IntArray]:
    """Tie the elements of one dimension of several tensors; those that go on. One without any freezes the others."""
    most = max(len(entries) for entries in lists)
    if any(not entries for entries in lists):
        ledger.freeze([((0,), ids) for entries in lists for ids in entries], reason)
        return []
    lead = next(entries for entries in lists if len(entries) == most)
    for entries in lists:
        if entries is lead:
            continue
        if len(entries) == 1:
            ledger.elements.compose(entries[0], lead)
        elif len(entries) == most and all(_same_layout(a, b) for a, b in zip(entries, lead)):
            for a, b in zip(entries, lead):
                ledger.elements.union(a, b)
        else:
            ledger.elements.union(ledger.elements.fuse(entries), ledger.elements.fuse(lead))
    return lead


def _same_layout(a: IntArray, b: IntArray) -> bool:
    return np.array_equal(np.unique(a, return_inverse=True)[1], np.unique(b, return_inverse=True)[1])


def tie(ledger: Ledger, tensors: Sequence[Any], reason: str) -> Entries:
    """Union what broadcasting aligns; a side that is long but carries no ids freezes the other."""
    tensors = [x for x in tensors if isinstance(x, torch.Tensor)]
    ndim = max((x.ndim for x in tensors), default=0)
    long = [x for x in tensors if any(s > 1 and d not in ledger.free(x) for d, s in enumerate(x.shape))]
    if any(len(dims) > 1 for x in long for dims, _ in ledger.entries(x)):
        # The same ids over the same dimensions need no factors.
        if len(long) == 1 and long[0].ndim == ndim:
            return ledger.entries(long[0])
        spans = [[dims for dims, _ in ledger.entries(x)] for x in long]
        if all(x.ndim == ndim and x.shape == long[0].shape for x in long) and all(s == spans[0] for s in spans):
            for x in long[1:]:
                for (_, a), (_, b) in zip(ledger.entries(x), ledger.entries(long[0])):
                    ledger.elements.union(a, b)
            return ledger.entries(long[0])
    result: Entries = []
    for d in range(ndim):
        present = [x for x in tensors if (k := d - (ndim - x.ndim)) >= 0 and x.shape[k] > 1 and k not in ledger.free(x)]
        lists = [ledger.along(x, d - (ndim - x.ndim)) for x in present]
        if any(lists):
            result += [((d,), ids) for ids in align(ledger, lists, reason)]
    return result


def union_makers(ledger: Ledger, tensors: Sequence[Any]) -> frozenset[str] | None:
    result: frozenset[str] = frozenset()
    for x in tensors:
        makers = ledger.makers(x)
        if makers is None:
            return None
        result |= makers
    return result


def note_bias(ledger: Ledger, produced: list[IntArray], bias: Any) -> None:
    """Which entry of a bias goes with which row of a weight."""
    entries = ledger.along(bias, bias.ndim - 1)
    if len(produced) == len(entries) == 1 and len(produced[0]) == len(entries[0]):
        ledger.trace.biases.append((produced[0], entries[0]))


def channel_axes(ledger: Ledger, x: Any, vectors: Sequence[Any]) -> Axes:
    lists = ledger.along(x, 1)
    ledger.freeze([a for a in ledger.axes(x) if a[0] != 1], 'a normalisation over pruned positions')
    vectors = [v for v in vectors if isinstance(v, torch.Tensor) and v.ndim == 1 and v.shape[0] > 1]
    line = (
        align(ledger, [lists, *(ledger.along(v, 0) for v in vectors)], 'a normalisation with a fixed vector')
        if (lists or any(ledger.along(v, 0) for v in vectors))
        else []
    )
    return [(1, ids) for ids in line]
