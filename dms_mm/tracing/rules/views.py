"""Operators that show or copy what is there, rearranged: views, cuts, repeats, and tensors like another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ledger import Axes, Ledger
from .layout import cut, dims_of, moved, view_entries, wrap
from .table import rule


@rule('clone', 'detach', 'alias', '_to_copy', 'lift_fresh', 'contiguous', 'to', 'lift', 'copy')
def identity(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    ledger.put(out, ledger.entries(x), ledger.source(x), ledger.makers(x))


@rule('zeros_like')
def zeros(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    if tuple(out.shape) == tuple(x.shape):
        ledger.put(out, ledger.entries(x), None, frozenset())


@rule('ones_like', 'empty_like', 'rand_like', 'randn_like', 'full_like')
def like(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    if tuple(out.shape) == tuple(x.shape):
        ledger.put(out, ledger.entries(x))


@rule('full', 'zeros', 'ones', 'empty', 'rand', 'randn', 'new_empty', 'new_zeros', 'new_ones', 'new_full')
def constant(ledger: Ledger, out: Any, *args: Any, **kwargs: Any) -> None:
    """A new tensor has whatever lengths its maker asked for: elements that tie what it meets."""
    ledger.put(out, [(d, ledger.elements.new(out.shape[d])) for d in range(out.ndim) if out.shape[d] > 1])


@rule('view', '_unsafe_view', 'reshape', '_reshape_alias', 'unsqueeze', 'squeeze', 'squeeze_', 'unsqueeze_', 'flatten')
def view(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    entries = ledger.entries(x)
    ledger.put(
        out, view_entries(ledger, entries, x.shape, out.shape) if entries else [], ledger.source(x), ledger.makers(x)
    )


@rule('permute')
def permute(ledger: Ledger, out: Any, x: Any, dims: Sequence[int]) -> None:
    order = [wrap(d, x.ndim) for d in dims]
    ledger.put(
        out, moved(ledger.entries(x), [order.index(d) for d in range(x.ndim)]), ledger.source(x), ledger.makers(x)
    )


@rule('transpose', 't', 'transpose_', 't_', 'numpy_T', 'swapaxes')
def transpose(ledger: Ledger, out: Any, x: Any, a: int = 0, b: int = 1) -> None:
    if x.ndim < 2:
        return identity(ledger, out, x)
    order = list(range(x.ndim))
    a, b = wrap(a, x.ndim), wrap(b, x.ndim)
    order[a], order[b] = order[b], order[a]
    permute(ledger, out, x, order)


@rule('expand', 'expand_as', 'broadcast_to')
def expand(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    lead = out.ndim - x.ndim
    entries = moved(ledger.entries(x), [d + lead for d in range(x.ndim)])
    if entries and x.ndim == out.ndim >= 5:
        # Copies of a group, as grouped queries make them of keys and values: which copy is an element, too.
        for d in range(1, x.ndim):
            if x.shape[d] == 1 and out.shape[d] > 1:
                entries.append(((d,), ledger.elements.new(out.shape[d])))
                ledger.elements.lines.append(entries[-1][1])
    ledger.put(out, entries, ledger.source(x), ledger.makers(x))
    # Copies along a dimension fit whatever length the other side has.
    taken = {d for dims, _ in entries for d in dims}
    out._dms_free = {d for d in range(lead, out.ndim) if x.shape[d - lead] == 1 < out.shape[d]} - taken


@rule('as_strided', 'as_strided_')
def restride(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    if tuple(out.shape) == tuple(x.shape):
        identity(ledger, out, x)
    else:
        ledger.freeze(ledger.entries(x), 'a strided view')


@rule('repeat')
def repeat(ledger: Ledger, out: Any, x: Any, repeats: Sequence[int]) -> None:
    lead = len(repeats) - x.ndim
    entries = [
        (tuple(d + lead for d in dims), np.tile(ids, [repeats[d + lead] for d in dims]))
        for dims, ids in ledger.entries(x)
    ]
    ledger.put(out, entries, None, ledger.makers(x))


@rule('flip')
def flip(ledger: Ledger, out: Any, x: Any, dims: Sequence[int]) -> None:
    turned = dims_of(dims, x.ndim)
    ledger.put(
        out, [(d, ids[::-1].copy() if d in turned else ids) for d, ids in ledger.axes(x)], None, ledger.makers(x)
    )


@rule('roll')
def roll(ledger: Ledger, out: Any, x: Any, shifts: Sequence[int], dims: Sequence[int] = ()) -> None:
    turned = dims_of(dims, x.ndim)
    ledger.freeze([a for a in ledger.axes(x) if a[0] in turned], 'a roll of pruned positions')
    ledger.put(out, ledger.axes(x), None, ledger.makers(x))


@rule('slice')
def slice_(ledger: Ledger, out: Any, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> None:
    dim = wrap(dim, x.ndim)
    whole = out.shape[dim] == x.shape[dim]
    ledger.put(
        out,
        ledger.entries(x) if whole else cut(ledger, ledger.entries(x), dim, slice(start, end, step)),
        ledger.source(x),
        ledger.makers(x),
    )


@rule('select')
def select(ledger: Ledger, out: Any, x: Any, dim: int, index: int) -> None:
    dim = wrap(dim, x.ndim)
    single = [e for e in ledger.entries(x) if e[0] == (dim,)]
    ledger.freeze(single, f'select on dimension {dim}')
    rest = cut(ledger, [e for e in ledger.entries(x) if e[0] != (dim,)], dim, index)
    ledger.put(out, moved(rest, [d - (d > dim) for d in range(x.ndim)]), ledger.source(x), ledger.makers(x))


@rule('unbind')
def unbind(ledger: Ledger, out: Any, x: Any, dim: int = 0) -> None:
    for index, piece in enumerate(out):
        select(ledger, piece, x, dim, index)


@rule('split', 'split_with_sizes', 'chunk', 'unsafe_split', 'unsafe_chunk', 'unsafe_split_with_sizes')
def split(ledger: Ledger, out: Any, x: Any, sizes: Any, dim: int = 0) -> None:
    dim = wrap(dim, x.ndim)
    lengths = [int(piece.shape[dim]) for piece in out]
    for dims, ids in ledger.entries(x):
        if dims == (dim,) and len(set(lengths)) == 1:
            # Equal pieces may come from chunk(): they must stay equal, or the cut moves.
            ledger.elements.boxes.append((ids.reshape(len(lengths), -1), 0))
    offset = 0
    for piece, length in zip(out, lengths):
        ledger.put(
            piece,
            cut(ledger, ledger.entries(x), dim, slice(offset, offset + length)),
            ledger.source(x),
            ledger.makers(x),
        )
        offset += length


@rule('pixel_shuffle', 'pixel_unshuffle', 'channel_shuffle', 'native_channel_shuffle')
def shuffle(ledger: Ledger, out: Any, x: Any, factor: int) -> None:
    channel = x.ndim - 3
    axes = ledger.axes(x)
    ledger.freeze([a for a in axes if a[0] > channel], 'a shuffle of spatial axes')
    result: Axes = [a for a in axes if a[0] < channel]
    for _, ids in [a for a in axes if a[0] == channel]:
        if out.shape == x.shape:
            grid = ids.reshape(factor, -1)
            ledger.elements.union(grid, grid[:1])
            result.append((channel, np.tile(grid[0], factor)))
        elif out.shape[channel] < x.shape[channel]:
            grid = ids.reshape(-1, factor * factor)
            ledger.elements.union(grid, grid[:, :1])
            result.append((channel, grid[:, 0].copy()))
        else:
            result.append((channel, np.repeat(ids, factor * factor)))
    ledger.put(out, result)
