"""Operators on the last two dimensions as a matrix: diagonals and triangles."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..findings import Entries
from ..ledger import Ledger
from .layout import align, moved, parted, touching, wrap
from .table import rule


def _square(ledger: Ledger, x: Any, a: int, b: int, offset: int, reason: str) -> list[Any]:
    """Tie rows and columns of one number, or freeze both; the ids of the diagonal."""
    rows, columns = touching(ledger, x, {a}), touching(ledger, x, {b})
    if offset == 0 and x.shape[a] == x.shape[b] and rows and columns:
        return align(ledger, [[ids for _, ids in rows], [ids for _, ids in columns]], reason)
    ledger.freeze([*rows, *columns], reason)
    return []


@rule('diagonal', 'diagonal_copy')
def diagonal(ledger: Ledger, out: Any, x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> None:
    a, b = wrap(dim1, x.ndim), wrap(dim2, x.ndim)
    line = _square(ledger, x, a, b, offset, 'a diagonal of pruned positions')
    rest = [entry for entry in ledger.entries(x) if not {a, b}.intersection(entry[0])]
    to = [d - (d > a) - (d > b) for d in range(x.ndim)]
    entries: Entries = [*moved(rest, to), *(((out.ndim - 1,), ids) for ids in line)]
    ledger.put(out, entries, None, ledger.makers(x))


@rule('trace')
def trace(ledger: Ledger, out: Any, x: Any) -> None:
    """The sum of a diagonal."""
    for ids in _square(ledger, x, 0, 1, 0, 'a diagonal of pruned positions'):
        if not ledger.request(x, ids):
            ledger.freeze([(0, ids)], 'a sum over pruned positions')


@rule('tril', 'triu', 'tril_', 'triu_')
def triangle(ledger: Ledger, out: Any, x: Any, offset: int = 0) -> None:
    """Rows and columns that go together leave the triangle of what is left."""
    _square(ledger, x, x.ndim - 2, x.ndim - 1, offset, 'a triangle of pruned positions')
    ledger.put(out, ledger.entries(x), None, ledger.makers(x), set())


@rule('diag_embed')
def diag_embed(ledger: Ledger, out: Any, x: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> None:
    a, b = sorted((wrap(dim1, out.ndim), wrap(dim2, out.ndim)))
    line, rest = parted(ledger, x, {x.ndim - 1})
    if offset:
        ledger.freeze(line, 'a diagonal of pruned positions')
        line = []
    free = [d for d in range(out.ndim) if d not in (a, b)]
    entries = moved(rest, free)
    for _, ids in line:
        entries += [((a,), ids), ((b,), np.copy(ids))]
    ledger.put(out, entries, None, ledger.makers(x))
