"""The algebra of entries: what reshapes, moves, cuts and ties make of the ids of one or several tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..elements import IntArray
from ..findings import Entries
from ..ledger import Ledger

# A tensor, and for each of its dimensions the one of the result that it is, or None where the operator acts along it.
Operand = tuple[Any, Sequence[int | None]]


def wrap(dim: int, ndim: int) -> int:
    """A dimension counted from the first."""
    return dim + ndim if dim < 0 else dim


def dims_of(dims: int | Sequence[int] | None, ndim: int) -> set[int]:
    """Dimensions counted from the first; none given are all."""
    if dims is None:
        return set(range(ndim))
    if isinstance(dims, int):
        dims = [dims]
    return {wrap(d, ndim) for d in dims} if len(dims) else set(range(ndim))


# -- one tensor
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
    """Entries of a tensor of shape ``old`` that is seen in shape ``new``."""
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


def view_copies(copies: set[int], old: Sequence[int], new: Sequence[int]) -> set[int]:
    """Dimensions of a view that are copies of one position, by those of the tensor."""
    if not copies or 0 in old:
        return set()
    blocks = reshape_blocks([int(s) for s in old], [int(s) for s in new])
    return {
        c for rows, columns in blocks if copies.issuperset(r for r in rows if old[r] > 1) for c in columns if new[c] > 1
    }


def moved(entries: Entries, to: Sequence[int | None]) -> Entries:
    """Entries after their dimension ``d`` went to ``to[d]``."""
    result: Entries = []
    for dims, ids in entries:
        places = [to[d] for d in dims]
        order = sorted(range(len(dims)), key=lambda k: places[k])  # type: ignore[arg-type, return-value]
        result.append((tuple(places[k] for k in order), ids.transpose(order)))  # type: ignore[misc]
    return result


def touching(ledger: Ledger, x: Any, dims: set[int]) -> Entries:
    """The entries of some dimensions, each of one dimension; those that lie elsewhere stay as they are."""
    if any(len(own) > 1 and dims.intersection(own) for own, _ in ledger.entries(x)):
        ledger.axes(x)
    return [entry for entry in ledger.entries(x) if dims.intersection(entry[0])]


def parted(ledger: Ledger, x: Any, dims: set[int]) -> tuple[Entries, Entries]:
    """The entries of some dimensions, each of one dimension, and the others."""
    inside = touching(ledger, x, dims)
    return inside, [entry for entry in ledger.entries(x) if not dims.intersection(entry[0])]


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
        elif not isinstance(piece, int) and part.size == 1:
            # A dimension of one position carries nothing: it fits any length.
            ledger.freeze([(dims, part)], 'a cut of one position')
        result.append((dims[:k] + dims[k + 1 :] if isinstance(piece, int) else dims, part))
    return result


# -- several tensors
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


def broadcast(tensors: Sequence[Any]) -> list[Operand]:
    """Operands whose dimensions are aligned from the last."""
    tensors = [x for x in tensors if isinstance(x, torch.Tensor)]
    ndim = max((x.ndim for x in tensors), default=0)
    return [(x, range(ndim - x.ndim, ndim)) for x in tensors]


def join(ledger: Ledger, operands: Sequence[Operand], reason: str, acted: str = '') -> tuple[Entries, set[int]]:
    """Entries of what is made of several tensors, and the dimensions along which it is copies.

    Along a dimension of the result operands have its length, or one position that fits all. What the operator acts
    along is frozen because of ``acted``; an operand that nothing prunes, or of another length, freezes the others
    because of ``reason``.
    """
    if acted:
        for x, places in operands:
            ledger.freeze(touching(ledger, x, {d for d, p in enumerate(places) if p is None}), acted)
    result: Entries = []
    for group in _groups(ledger, operands):
        users = [(x, places) for x, places in operands if any(_present(ledger, x, places, p) for p in group)]
        lists = [_within(ledger, x, places, group) for x, places in users]
        if not any(lists):
            continue
        if len(group) > 1 and all([dims for dims, _ in own] == [dims for dims, _ in lists[0]] for own in lists):
            # The same dimensions together in all of them need no factors.
            for own in lists[1:]:
                for (_, a), (_, b) in zip(own, lists[0]):
                    ledger.elements.union(a, b)
            result += lists[0]
            continue
        for p in group:
            result += [((p,), ids) for ids in _along(ledger, operands, p, reason)]
    copies = set()
    for p in {p for _, places in operands for p in places if p is not None}:
        long = [(x, places) for x, places in operands if p in places and x.shape[list(places).index(p)] > 1]
        if long and not any(_present(ledger, x, places, p) for x, places in long):
            copies.add(p)
    return result, copies


def _present(ledger: Ledger, x: Any, places: Sequence[int | None], p: int) -> bool:
    """Whether a tensor has positions of its own along a dimension of the result."""
    d = list(places).index(p) if p in places else -1
    return d >= 0 and x.shape[d] > 1 and d not in ledger.free(x)


def _within(ledger: Ledger, x: Any, places: Sequence[int | None], group: set[int]) -> Entries:
    own = [(dims, ids) for dims, ids in ledger.entries(x) if any(places[d] in group for d in dims)]
    return moved(own, places)


def _groups(ledger: Ledger, operands: Sequence[Operand]) -> list[set[int]]:
    """Dimensions of the result, together where ids of some operand span them."""
    groups = [{p} for p in sorted({p for _, places in operands for p in places if p is not None})]
    for x, places in operands:
        for dims, _ in ledger.entries(x):
            if len(dims) > 1 and all(places[d] is not None for d in dims):
                hit = [g for g in groups if g.intersection(places[d] for d in dims)]
                groups = [g for g in groups if g not in hit] + [set().union(*hit)]
    return sorted(groups, key=min)


def _along(ledger: Ledger, operands: Sequence[Operand], p: int, reason: str) -> list[IntArray]:
    present = [(x, list(places).index(p)) for x, places in operands if _present(ledger, x, places, p)]
    lists = [ledger.along(x, d) for x, d in present]
    if not any(lists):
        return []
    if len({int(x.shape[d]) for x, d in present}) > 1:
        ledger.freeze([((0,), ids) for own in lists for ids in own], reason)
        return []
    return align(ledger, lists, reason)


def tie(ledger: Ledger, tensors: Sequence[Any], reason: str) -> Entries:
    """Union what broadcasting aligns; a side that is long but carries no ids freezes the other."""
    return join(ledger, broadcast(tensors), reason)[0]


def union_makers(ledger: Ledger, tensors: Sequence[Any]) -> frozenset[str] | None:
    """Whose masks make all of some tensors zero."""
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
