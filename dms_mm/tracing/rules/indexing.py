"""Operators that pick positions by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..ledger import Ledger
from ..named import picks
from .layout import Operand, broadcast, join, touching, wrap
from .table import rule
from .zeros import zero_makers


@rule('embedding')
def embedding(ledger: Ledger, out: Any, weight: Any, index: Any, *args: Any, **kwargs: Any) -> None:
    if not picks(ledger, weight, 0, index):
        ledger.freeze(touching(ledger, weight, {0}), 'the vocabulary of an embedding')
    ledger.produce(weight, ledger.along(weight, 1))
    operands: list[Operand] = [(weight, [None, out.ndim - 1]), (index, range(index.ndim))]
    picked(ledger, out, operands, 'an embedding of fixed places', {0: index})


@rule('_embedding_bag', '_embedding_bag_forward_only')
def embedding_bag(ledger: Ledger, out: Any, weight: Any, *args: Any, **kwargs: Any) -> None:
    ledger.freeze(touching(ledger, weight, {0}), 'the vocabulary of an embedding')
    for x in args:
        if isinstance(x, torch.Tensor):
            ledger.freeze(ledger.entries(x), 'the numbers in bags of an embedding')
    ledger.produce(weight, ledger.along(weight, 1))
    # With the places of maxima, which are of the same shape.
    for k, result in enumerate(out):
        if result.shape == out[0].shape:
            columns = [(1, ids) for ids in ledger.along(weight, 1)]
            ledger.put(result, columns, None, ledger.makers(weight) if k == 0 else None)


def picked(ledger: Ledger, out: Any, operands: list[Operand], acted: str, by: Mapping[int, Any] | None = None) -> None:
    """A result that has numbers of its first operand; those of the others say which, ``by`` dimension of the first."""
    (x, places), others = operands[0], operands[1:]
    by = by or {}
    acting = {d for d, p in enumerate(places) if p is None}
    loose = {d for d in acting if d not in by or not picks(ledger, x, d, by[d])}
    ledger.freeze(touching(ledger, x, loose), acted)
    for y, at in others:
        ledger.freeze(touching(ledger, y, {d for d, p in enumerate(at) if p is None}), acted)
    entries, copies = join(ledger, operands, acted)
    # What is picked of a parameter's matrices is a parameter still.
    source = ledger.source(x) if acting and not loose else None
    ledger.put(out, entries, source, zero_makers(ledger, operands, entries, [frozenset({0})]), copies)


@rule('index_select')
def index_select(ledger: Ledger, out: Any, x: Any, dim: int, index: Any) -> None:
    dim = wrap(dim, x.ndim)
    places = [None if d == dim else d for d in range(x.ndim)]
    operands: list[Operand] = [(x, places), (index, [dim] * index.ndim)]
    picked(ledger, out, operands, f'index_select on dimension {dim}', {dim: index})


def picked_along(ledger: Ledger, out: Any, x: Any, dim: int, index: Any) -> None:
    """Along other dimensions the index is as long as what it picks from."""
    places = [None if d == dim else d for d in range(x.ndim)]
    picked(ledger, out, [(x, places), (index, range(index.ndim))], 'a gather from pruned positions', {dim: index})


def index_places(x: Any, indices: Sequence[Any]) -> tuple[list[int | None], int, int]:
    """Where dimensions of ``x`` are in ``x[indices]``, None for indexed ones; the indices' first, and how many."""
    indexed = [d for d, i in enumerate(indices) if i is not None]
    rank = max((i.ndim for i in indices if i is not None), default=0)
    together = indexed == list(range(indexed[0], indexed[-1] + 1)) if indexed else True
    first = indexed[0] if together and indexed else 0
    places: list[int | None] = []
    for d in range(x.ndim):
        before = d - sum(i < d for i in indexed)
        places.append(None if d in indexed else before if before < first and together else before + rank)
    return places, first, rank


@rule('index', '_unsafe_index')
def index(ledger: Ledger, out: Any, x: Any, indices: Sequence[Any]) -> None:
    """Indexed dimensions can't carry elements (the values of an index are not known); the others pass."""
    given = [i for i in indices if i is not None]
    if any(i.dtype in (torch.bool, torch.uint8) for i in given):
        for y in (x, *given):
            ledger.freeze(ledger.entries(y), 'an index by a boolean mask')
        return ledger.put(out, [])
    places, first, _ = index_places(x, indices)
    operands: list[Operand] = [(x, places)]
    operands += [(i, [first + p for p in at if p is not None]) for i, at in broadcast(given)]
    by = {d: i for d, i in enumerate(indices) if i is not None}
    picked(ledger, out, operands, 'an index into pruned positions', by)
