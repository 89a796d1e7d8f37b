"""Operators that write into some positions of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..ledger import Ledger
from .indexing import index_places
from .layout import Operand, join, touching, wrap
from .table import rule
from .views import tie_steps
from .zeros import zero_makers

SCATTERED = 'a scatter over pruned positions'


def _written(ledger: Ledger, out: Any, operands: list[Operand], sources: Sequence[int]) -> None:
    """A result like the first operand; it is zero where that is and what is written, the operands ``sources``, too."""
    entries, copies = join(ledger, operands, SCATTERED, SCATTERED)
    makers = zero_makers(ledger, operands, entries, [frozenset({0, *sources})])
    ledger.put(out, entries, None, makers, copies)


@rule('scatter', 'scatter_', 'scatter_add', 'scatter_add_', 'scatter_reduce', 'scatter_reduce_')
def scatter(ledger: Ledger, out: Any, x: Any, dim: int, index: Any, src: Any, *args: Any, **kwargs: Any) -> None:
    """Along other dimensions index and source are as long as what they write to."""
    places = _but(wrap(dim, x.ndim), x.ndim)
    operands: list[Operand] = [(x, places), (index, places[: index.ndim])]
    tensor = isinstance(src, torch.Tensor)
    operands += [(src, places[: src.ndim])] if tensor else []
    if not tensor and src != 0:
        _written(ledger, out, operands, [])
        ledger.put(out, ledger.entries(out))
    else:
        _written(ledger, out, operands, [2] if tensor else [])


def _but(dim: int, ndim: int) -> list[int | None]:
    return [None if d == dim else d for d in range(ndim)]


@rule('index_add', 'index_add_', 'index_copy', 'index_copy_', 'index_reduce', 'index_reduce_')
def index_add(ledger: Ledger, out: Any, x: Any, dim: int, index: Any, source: Any, *args: Any, **kwargs: Any) -> None:
    places = _but(wrap(dim, x.ndim), x.ndim)
    operands: list[Operand] = [(x, places), (index, [None] * index.ndim), (source, places[: source.ndim])]
    _written(ledger, out, operands, [2])


@rule('index_fill', 'index_fill_')
def index_fill(ledger: Ledger, out: Any, x: Any, dim: int, index: Any, value: Any) -> None:
    _written(ledger, out, [(x, _but(wrap(dim, x.ndim), x.ndim)), (index, [None] * index.ndim)], [])
    if not isinstance(value, (int, float)) or value != 0:
        ledger.put(out, ledger.entries(out), None, None, ledger.free(out))


@rule('index_put', 'index_put_', '_index_put_impl_')
def index_put(ledger: Ledger, out: Any, x: Any, indices: Sequence[Any], values: Any, *args: Any) -> None:
    """Indexed dimensions stay; the others are those of ``values``, too."""
    given = [i for i in indices if i is not None]
    if any(i.dtype in (torch.bool, torch.uint8) for i in given):
        return _put_where(ledger, out, x, indices, values)
    places, first, rank = index_places(x, indices)
    # From places in x[indices], which values have, to those in x.
    back: dict[int, int] = {p: d for d, p in enumerate(places) if p is not None}
    ndim = len(back) + rank
    operands: list[Operand] = [(x, [None if p is None else d for d, p in enumerate(places)])]
    operands += [(values, [back.get(p) for p in range(ndim - values.ndim, ndim)])]
    operands += [(i, [None] * i.ndim) for i in given]
    _written(ledger, out, operands, [1])


def _put_where(ledger: Ledger, out: Any, x: Any, indices: Sequence[Any], values: Any) -> None:
    """One number wherever a mask is true is elementwise along the mask's dimensions. Of more numbers those are a line,
    and what comes before and after them is as in what is written to."""
    masks = [(d, i) for d, i in enumerate(indices) if i is not None]
    if len(masks) == 1 and values.numel() > 1:
        d, mask = masks[0]
        places = [p if p < d or p >= d + mask.ndim else None for p in range(x.ndim)]
        line = [*places[:d], None, *places[d + mask.ndim :]]
        operands: list[Operand] = [(x, places), (values, line[len(line) - values.ndim :]), (mask, [None] * mask.ndim)]
        return _written(ledger, out, operands, [1])
    if len(masks) > 1:
        for y in (x, values, *(i for _, i in masks)):
            ledger.freeze(ledger.entries(y), SCATTERED)
        return ledger.put(out, [])
    d, mask = masks[0]
    entries, copies = join(ledger, [(x, range(x.ndim)), (mask, range(d, d + mask.ndim))], SCATTERED)
    ledger.put(out, entries, None, None, copies)


@rule('select_scatter')
def select_scatter(ledger: Ledger, out: Any, x: Any, src: Any, dim: int, index: int) -> None:
    places = _but(wrap(dim, x.ndim), x.ndim)
    _written(ledger, out, [(x, places), (src, [p for p in places if p is not None])], [1])


@rule('slice_scatter')
def slice_scatter(
    ledger: Ledger, out: Any, x: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> None:
    """What is written is tied to the positions that it takes."""
    dim = wrap(dim, x.ndim)
    places = _but(dim, x.ndim)
    own, new = touching(ledger, x, {dim}), touching(ledger, src, {dim})
    if step > 1:
        tie_steps(ledger, own, start, end, step)
    if own and new:
        line, piece = (ledger.elements.fuse([ids for _, ids in entries]) for entries in (own, new))
        ledger.elements.union(line[start:end:step], piece)
    elif src.shape[dim] > 1:
        ledger.freeze([*own, *new], SCATTERED)
    else:
        ledger.freeze([(d, ids[start:end:step]) for d, ids in own], SCATTERED)
    entries, _ = join(ledger, [(x, places), (src, places)], SCATTERED)
    entries += own
    makers = zero_makers(ledger, [(x, range(x.ndim)), (src, range(x.ndim))], entries, [frozenset({0, 1})])
    ledger.put(out, entries, None, makers)


@rule('masked_scatter', 'masked_scatter_')
def masked_scatter(ledger: Ledger, out: Any, x: Any, mask: Any, source: Any) -> None:
    """Which number goes where depends on how many went before."""
    for y in (x, mask, source):
        ledger.freeze(ledger.entries(y), SCATTERED)
    ledger.put(out, [])
