"""Operators that pick positions by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..ledger import Axes, Ledger
from .layout import wrap
from .table import rule


@rule('embedding')
def embedding(ledger: Ledger, out: Any, weight: Any, index: Any, *args: Any, **kwargs: Any) -> None:
    ledger.freeze([(0, ids) for ids in ledger.along(weight, 0)], 'the vocabulary of an embedding')
    ledger.produce(weight, ledger.along(weight, 1))
    ledger.put(out, [(out.ndim - 1, ids) for ids in ledger.along(weight, 1)], None, ledger.makers(weight))


@rule('index_select')
def index_select(ledger: Ledger, out: Any, x: Any, dim: int, index: Any) -> None:
    dim = wrap(dim, x.ndim)
    ledger.freeze([a for a in ledger.axes(x) if a[0] == dim], f'index_select on dimension {dim}')
    ledger.put(out, [a for a in ledger.axes(x) if a[0] != dim], None, ledger.makers(x))


@rule('index', '_unsafe_index')
def index(ledger: Ledger, out: Any, x: Any, indices: Sequence[Any]) -> None:
    """Indexed dimensions can't carry elements (the values of an index are not known); the others pass."""
    indexed = [d for d, i in enumerate(indices) if i is not None]
    ledger.freeze([a for a in ledger.axes(x) if a[0] in indexed], 'an index into pruned positions')
    rank = max((i.ndim for i in indices if i is not None), default=0)
    if any(i is not None and i.dtype == torch.bool for i in indices):
        ledger.freeze(ledger.axes(x), 'an index by a boolean mask')
        return
    together = indexed == list(range(indexed[0], indexed[-1] + 1)) if indexed else True
    place = indexed[0] if together and indexed else 0
    result: Axes = []
    for d, ids in ledger.axes(x):
        if d not in indexed:
            before = d - sum(i < d for i in indexed)
            result.append((before if before < place and together else before + rank, ids))
    ledger.put(out, result, None, ledger.makers(x))


@rule('gather', 'take_along_dim')
def gather(ledger: Ledger, out: Any, x: Any, dim: int, index: Any, *args: Any, **kwargs: Any) -> None:
    ledger.freeze(ledger.axes(x) + ledger.axes(index), 'a gather from pruned positions')
