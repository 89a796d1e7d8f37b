"""Operators that show or copy what is there, rearranged: views, cuts, repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..findings import Entries
from ..ledger import Ledger
from ..named import picks_one
from .along import act_along, along, given, last
from .layout import cut, dims_of, moved, parted, touching, view_copies, view_entries, wrap
from .table import rule


def _same(ledger: Ledger, out: Any, x: Any, entries: Entries, copies: Sequence[int] | set[int] = ()) -> None:
    """What is a rearrangement of ``x`` has its parameter and its makers."""
    ledger.put(out, entries, ledger.source(x), ledger.makers(x), copies)


@rule('clone', 'detach', 'alias', '_to_copy', 'lift_fresh', 'lift', '_conj', '_neg_view')
def identity(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    _same(ledger, out, x, ledger.entries(x), ledger.free(x))


@rule('view', '_unsafe_view', '_reshape_alias', 'unsqueeze', 'unsqueeze_')
def view(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    """Also in place: the tensor then has its new shape already."""
    old, entries = ledger.shape(x), ledger.entries(x)
    if np.prod(old) != np.prod(out.shape):
        # The same bytes as numbers of another size.
        return act_along(ledger, out, x, {x.ndim - 1}, 'a view as another type along pruned positions')
    copies = view_copies(ledger.free(x), old, out.shape)
    _same(ledger, out, x, view_entries(ledger, entries, old, out.shape) if entries else [], copies)


@rule('squeeze', 'squeeze_')
def squeeze(ledger: Ledger, out: Any, x: Any, dim: Any = None) -> None:
    """A dimension that shrinks to one position would go, too: two of its positions stay."""
    shape = ledger.shape(x)
    long = {d for d in dims_of(dim, len(shape)) if shape[d] > 1}
    for dims, ids in touching(ledger, x, long):
        ledger.freeze(
            [(dims, ids[:1]), (dims, ids[ids != ids[0]][:1])], 'a squeeze, which takes a single channel for none'
        )
    view(ledger, out, x)


@rule('permute')
def permute(ledger: Ledger, out: Any, x: Any, dims: Sequence[int]) -> None:
    order = [wrap(d, x.ndim) for d in dims]
    to = [order.index(d) for d in range(x.ndim)]
    _same(ledger, out, x, moved(ledger.entries(x), to), {to[d] for d in ledger.free(x)})


@rule('transpose', 't', 'transpose_', 't_')
def transpose(ledger: Ledger, out: Any, x: Any, a: int = 0, b: int = 1) -> None:
    if x.ndim < 2:
        return identity(ledger, out, x)
    order = list(range(x.ndim))
    a, b = wrap(a, x.ndim), wrap(b, x.ndim)
    order[a], order[b] = order[b], order[a]
    permute(ledger, out, x, order)


@rule('expand')
def expand(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    lead = out.ndim - x.ndim
    entries = moved(ledger.entries(x), [d + lead for d in range(x.ndim)])
    if entries and x.ndim == out.ndim >= 5:
        # Copies of a group, as grouped queries make them of keys and values: which copy is an element, too.
        for d in range(1, x.ndim):
            if x.shape[d] == 1 and out.shape[d] > 1:
                entries.append(((d,), ledger.elements.new(out.shape[d])))
                ledger.elements.lines.append(entries[-1][1])
    # Copies along a dimension fit whatever length the other side has.
    taken = {d for dims, _ in entries for d in dims}
    copies = {d for d in range(lead, out.ndim) if x.shape[d - lead] == 1 < out.shape[d]} - taken
    _same(ledger, out, x, entries, copies | {d + lead for d in ledger.free(x)})


@rule('as_strided', 'as_strided_')
def restride(ledger: Ledger, out: Any, x: Any, size: Sequence[int], stride: Sequence[int], *args: Any) -> None:
    """A permutation, where lengths and strides are those of the tensor's dimensions."""
    old = ledger.shape(x)
    known = [(d, n, s) for d, (n, s) in enumerate(zip(old, _strides(ledger, x))) if n > 1]
    new = [(d, int(n), int(s)) for d, (n, s) in enumerate(zip(size, stride)) if n > 1]
    to = {d: next((e for e, m, r in new if (m, r) == (n, s)), None) for d, n, s in known}
    if len(known) == len(new) and None not in to.values() and len(set(to.values())) == len(known):
        _same(ledger, out, x, moved(ledger.entries(x), [to.get(d) for d in range(len(old))]))
    else:
        ledger.freeze(ledger.entries(x), 'a strided view')
        ledger.put(out, [])


def _strides(ledger: Ledger, x: Any) -> Sequence[int]:
    """Of a tensor that was changed in place those are gone; then it was contiguous, or it is no permutation."""
    if ledger.shape(x) == tuple(x.shape):
        return [int(s) for s in x.stride()]
    return [int(np.prod(ledger.shape(x)[d + 1 :])) for d in range(len(ledger.shape(x)))]


@rule('repeat')
def repeat(ledger: Ledger, out: Any, x: Any, repeats: Sequence[int]) -> None:
    lead = len(repeats) - x.ndim
    if 0 in out.shape:
        ledger.freeze(ledger.entries(x), 'a repeat that leaves nothing')
        return ledger.put(out, [])
    entries = [
        (tuple(d + lead for d in dims), np.tile(ids, [repeats[d + lead] for d in dims]))
        for dims, ids in ledger.entries(x)
    ]
    copies = {d + lead for d in range(x.ndim) if x.shape[d] == 1 < out.shape[d + lead] or d in ledger.free(x)}
    ledger.put(out, entries, None, ledger.makers(x), copies)


@rule('flip')
def flip(ledger: Ledger, out: Any, x: Any, dims: Sequence[int]) -> None:
    turned = dims_of(dims, x.ndim) if len(dims) else set()
    entries = [
        (own, np.flip(ids, [k for k, d in enumerate(own) if d in turned]).copy()) for own, ids in ledger.entries(x)
    ]
    ledger.put(out, entries, None, ledger.makers(x), ledger.free(x))


rule('roll')(along(given(1, 'dims', ()), 'a roll of pruned positions', zero=True))
rule('unfold')(along(given(0, 'dimension'), 'windows over pruned positions', zero=True))
rule('view_as_complex')(along(last(1), 'pairs of real and imaginary parts', zero=True))
rule('view_as_real')(along(lambda x, *args: set(), '', zero=True))


@rule('slice')
def slice_(ledger: Ledger, out: Any, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> None:
    dim = wrap(dim, x.ndim)
    if out.shape[dim] == x.shape[dim]:
        return identity(ledger, out, x)
    if out.shape[dim] == 0:
        # Whether it leaves nothing of a slim model's, too, its shape tells.
        return ledger.put(out, parted(ledger, x, {dim})[1], None, ledger.makers(x), ledger.free(x) - {dim})
    if step > 1:
        tie_steps(ledger, touching(ledger, x, {dim}), start, end, step)
    if any(len(dims) == 2 and dims[1] == dim for dims, _ in ledger.entries(x)):
        # A part of every head: head dims are a factor of their own, and where it begins is looked at in a slim model.
        ledger.axes(x)
    entries = cut(ledger, ledger.entries(x), dim, slice(start, end, step))
    _same(ledger, out, x, entries, ledger.free(x))


def tie_steps(ledger: Ledger, entries: Entries, start: Any, end: Any, step: int) -> None:
    """Of every so many positions, those between two of them go with the first; every one of them may be the first."""
    for _, ids in entries:
        begin, end, _ = slice(start, end).indices(len(ids))
        begin -= begin % step
        line = ids[begin : end + (begin - end) % step]
        for k in range(0, len(line), step):
            ledger.elements.union(line[k : k + step], line[k])


@rule('select')
def select(ledger: Ledger, out: Any, x: Any, dim: int, index: int) -> None:
    dim = wrap(dim, x.ndim)
    single = [e for e in ledger.entries(x) if e[0] == (dim,)]
    if not (single and picks_one(ledger, x, dim, index)):
        ledger.freeze(single, f'select on dimension {dim}')
    rest = cut(ledger, [e for e in ledger.entries(x) if e[0] != (dim,)], dim, index)
    to = [d - (d > dim) for d in range(x.ndim)]
    _same(ledger, out, x, moved(rest, to), {to[d] for d in ledger.free(x) if d != dim})


@rule('unbind')
def unbind(ledger: Ledger, out: Any, x: Any, dim: int = 0) -> None:
    for index, piece in enumerate(out):
        select(ledger, piece, x, dim, index)


@rule('split_with_sizes', 'unsafe_split_with_sizes')
def split_with_sizes(ledger: Ledger, out: Any, x: Any, sizes: Sequence[int], dim: int = 0) -> None:
    """Pieces of one size stay equal: a forward has one number for all of them, as a rule."""
    dim = wrap(dim, x.ndim)
    if len(out) > 1 and len(set(sizes)) == 1 and sizes[0]:
        for dims, ids in ledger.entries(x):
            if dims == (dim,):
                ledger.elements.boxes.append((ids.reshape(len(out), -1), 0))
    _pieces(ledger, out, x, dim)


@rule('split', 'unsafe_split')
def split(ledger: Ledger, out: Any, x: Any, sizes: Any, dim: int = 0) -> None:
    """Pieces of one size, as chunk() makes them, must stay equal, or the cut moves; the last one may be smaller.

    Then either it shrinks with the others, down to one position, and what these have more stays, or they do as far as
    they stay larger.
    """
    dim = wrap(dim, x.ndim)
    size = int(out[0].shape[dim])
    even = x.shape[dim] // size
    for dims, ids in touching(ledger, x, {dim}) if len(out) > 1 and even < len(out) else ledger.entries(x):
        if dims == (dim,):
            ledger.elements.boxes.append((ids[: even * size].reshape(even, size), 0))
            if even < len(out):
                tail, rest = ids[even * size :], size - (x.shape[dim] % size)
                if rest < len(tail):
                    ledger.elements.union(tail, ids[: len(tail)])
                fixed = [tail[:1], ids[len(tail) : size]] if rest < len(tail) else [tail, ids[: len(tail)]]
                ledger.freeze([(dims, part) for part in fixed], 'a last piece that is smaller than the others')
    _pieces(ledger, out, x, dim)


def _pieces(ledger: Ledger, out: Any, x: Any, dim: int) -> None:
    if any(piece.shape[dim] == 0 for piece in out):
        # What an empty piece has along other dimensions is seen by factors alone.
        touching(ledger, x, {dim})
    offset = 0
    for piece in out:
        length = int(piece.shape[dim])
        _same(ledger, piece, x, cut(ledger, ledger.entries(x), dim, slice(offset, offset + length)), ledger.free(x))
        offset += length
