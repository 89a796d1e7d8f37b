"""What each ATen operator does to element ids: a table from operator name to rule (DESIGN 3.1).

A tensor's *entries* are a list of ``(dims, ids)``: the positions of ``dims`` together are the elements ``ids``, an
array with as many dimensions. Its *axes* are the same with one dimension each: asking for them makes elements that span
several dimensions pairs (or triples) of factors, which keeps what lives rectangular. A dimension may have several
axes; a position then lives only if all of its elements do. A rule gets the tracer, the operator's output and its
arguments. An operator without a rule freezes what it touches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .elements import IntArray

if TYPE_CHECKING:
    from .tracer import Tracer

Axes = list[tuple[int, IntArray]]
Entries = list[tuple[tuple[int, ...], IntArray]]
Rule = Callable[..., None]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        for name in names:
            RULES['aten::' + name] = function
        return function

    return register


def _wrap(dim: int, ndim: int) -> int:
    return dim + ndim if dim < 0 else dim


def _dims(dims: int | Sequence[int] | None, ndim: int) -> set[int]:
    if dims is None:
        return set(range(ndim))
    if isinstance(dims, int):
        dims = [dims]
    return {_wrap(d, ndim) for d in dims} if len(dims) else set(range(ndim))


# ------------------------------------------------------------------------------------------------- shape changes
@rule('clone', 'detach', 'alias', '_to_copy', 'lift_fresh', 'contiguous', 'to', 'lift', 'copy')
def identity(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    t.put(out, t.entries(x), t.source(x), t.makers(x))


@rule('zeros_like')
def zeros(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    if tuple(out.shape) == tuple(x.shape):
        t.put(out, t.entries(x), None, frozenset())


@rule('ones_like', 'empty_like', 'rand_like', 'randn_like', 'full_like', 'new_empty')
def like(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    if tuple(out.shape) == tuple(x.shape):
        t.put(out, t.entries(x))


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


@rule('view', '_unsafe_view', 'reshape', '_reshape_alias', 'unsqueeze', 'squeeze', 'squeeze_', 'unsqueeze_', 'flatten')
def view(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    entries = t.entries(x)
    t.put(out, view_entries(t, entries, x.shape, out.shape) if entries else [], t.source(x), t.makers(x))


def view_entries(t: Tracer, entries: Entries, old: Sequence[int], new: Sequence[int]) -> Entries:
    if 0 in old:
        t.freeze(entries, 'a reshape of an empty tensor')
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
                t.freeze([(dims, ids)], 'a reshape of channels that are all tied together')
            continue
        line = np.ascontiguousarray(full[tuple(slice(None) if d in varying else 0 for d in range(full.ndim))])
        if len(varying) > 1:
            t.elements.boxes.append((line, None))
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


@rule('permute')
def permute(t: Tracer, out: Any, x: Any, dims: Sequence[int]) -> None:
    order = [_wrap(d, x.ndim) for d in dims]
    t.put(out, moved(t.entries(x), [order.index(d) for d in range(x.ndim)]), t.source(x), t.makers(x))


@rule('transpose', 't', 'transpose_', 't_', 'numpy_T', 'swapaxes')
def transpose(t: Tracer, out: Any, x: Any, a: int = 0, b: int = 1) -> None:
    if x.ndim < 2:
        return identity(t, out, x)
    order = list(range(x.ndim))
    a, b = _wrap(a, x.ndim), _wrap(b, x.ndim)
    order[a], order[b] = order[b], order[a]
    permute(t, out, x, order)


@rule('expand', 'expand_as', 'broadcast_to')
def expand(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    lead = out.ndim - x.ndim
    entries = moved(t.entries(x), [d + lead for d in range(x.ndim)])
    if entries and x.ndim == out.ndim >= 5:
        # Copies of a group, as grouped queries make them of keys and values: which copy is an element, too.
        for d in range(1, x.ndim):
            if x.shape[d] == 1 and out.shape[d] > 1:
                entries.append(((d,), t.elements.new(out.shape[d])))
                t.elements.lines.append(entries[-1][1])
    t.put(out, entries, t.source(x), t.makers(x))
    # Copies along a dimension fit whatever length the other side has.
    taken = {d for dims, _ in entries for d in dims}
    out._dms_free = {d for d in range(lead, out.ndim) if x.shape[d - lead] == 1 < out.shape[d]} - taken


@rule('as_strided', 'as_strided_')
def restride(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    if tuple(out.shape) == tuple(x.shape):
        identity(t, out, x)
    else:
        t.freeze(t.entries(x), 'a strided view')


@rule('repeat')
def repeat(t: Tracer, out: Any, x: Any, repeats: Sequence[int]) -> None:
    lead = len(repeats) - x.ndim
    entries = [
        (tuple(d + lead for d in dims), np.tile(ids, [repeats[d + lead] for d in dims])) for dims, ids in t.entries(x)
    ]
    t.put(out, entries, None, t.makers(x))


@rule('flip')
def flip(t: Tracer, out: Any, x: Any, dims: Sequence[int]) -> None:
    turned = _dims(dims, x.ndim)
    t.put(out, [(d, ids[::-1].copy() if d in turned else ids) for d, ids in t.axes(x)], None, t.makers(x))


@rule('roll')
def roll(t: Tracer, out: Any, x: Any, shifts: Sequence[int], dims: Sequence[int] = ()) -> None:
    turned = _dims(dims, x.ndim)
    t.freeze([a for a in t.axes(x) if a[0] in turned], 'a roll of pruned positions')
    t.put(out, t.axes(x), None, t.makers(x))


def cut(t: Tracer, entries: Entries, dim: int, piece: slice | int) -> Entries:
    """Entries of a part along ``dim``; of ids over several dimensions the others go on alone."""
    result: Entries = []
    for dims, ids in entries:
        if dim not in dims:
            result.append((dims, ids))
            continue
        k = dims.index(dim)
        part = ids[tuple(piece if e == k else slice(None) for e in range(ids.ndim))]
        if len(dims) > 1:
            t.elements.boxes.append((ids, k))
        result.append((dims[:k] + dims[k + 1 :] if isinstance(piece, int) else dims, part))
    return result


@rule('slice')
def slice_(t: Tracer, out: Any, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> None:
    dim = _wrap(dim, x.ndim)
    whole = out.shape[dim] == x.shape[dim]
    t.put(out, t.entries(x) if whole else cut(t, t.entries(x), dim, slice(start, end, step)), t.source(x), t.makers(x))


@rule('select')
def select(t: Tracer, out: Any, x: Any, dim: int, index: int) -> None:
    dim = _wrap(dim, x.ndim)
    single = [e for e in t.entries(x) if e[0] == (dim,)]
    t.freeze(single, f'select on dimension {dim}')
    rest = cut(t, [e for e in t.entries(x) if e[0] != (dim,)], dim, index)
    t.put(out, moved(rest, [d - (d > dim) for d in range(x.ndim)]), t.source(x), t.makers(x))


@rule('unbind')
def unbind(t: Tracer, out: Any, x: Any, dim: int = 0) -> None:
    for index, piece in enumerate(out):
        select(t, piece, x, dim, index)


@rule('split', 'split_with_sizes', 'chunk', 'unsafe_split', 'unsafe_chunk', 'unsafe_split_with_sizes')
def split(t: Tracer, out: Any, x: Any, sizes: Any, dim: int = 0) -> None:
    dim = _wrap(dim, x.ndim)
    lengths = [int(piece.shape[dim]) for piece in out]
    for dims, ids in t.entries(x):
        if dims == (dim,) and len(set(lengths)) == 1:
            # Equal pieces may come from chunk(): they must stay equal, or the cut moves.
            t.elements.boxes.append((ids.reshape(len(lengths), -1), 0))
    offset = 0
    for piece, length in zip(out, lengths):
        t.put(piece, cut(t, t.entries(x), dim, slice(offset, offset + length)), t.source(x), t.makers(x))
        offset += length


def union_makers(t: Tracer, tensors: Sequence[Any]) -> frozenset[str] | None:
    result: frozenset[str] = frozenset()
    for x in tensors:
        makers = t.makers(x)
        if makers is None:
            return None
        result |= makers
    return result


@rule('cat', 'concat')
def cat(t: Tracer, out: Any, tensors: Sequence[Any], dim: int = 0) -> None:
    dim = _wrap(dim, out.ndim)
    tensors = [x for x in tensors if x.ndim == out.ndim]
    result: Axes = []
    for d in range(out.ndim):
        lists = [t.along(x, d) for x in tensors]
        if not any(lists):
            continue
        if d != dim:
            result += [(d, ids) for ids in align(t, lists, 'a concatenation with a fixed tensor')]
            continue
        parts = []
        for x, entries in zip(tensors, lists):
            if entries:
                parts.append(t.elements.fuse(entries))
            else:
                fresh = t.elements.new(x.shape[d])
                t.elements.freeze(fresh, 'part of a concatenation that nothing prunes')
                parts.append(fresh)
        result.append((d, np.concatenate(t.gated(tensors, parts))))
    # A piece without elements along other dimensions has nothing to be zero.
    t.put(out, result, None, union_makers(t, [x for x in tensors if t.entries(x)]))


@rule('stack')
def stack(t: Tracer, out: Any, tensors: Sequence[Any], dim: int = 0) -> None:
    dim = _wrap(dim, out.ndim)
    entries = tie(t, tensors, 'a stack with a fixed tensor')
    t.put(out, moved(entries, [d + (d >= dim) for d in range(out.ndim - 1)]), None, union_makers(t, tensors))


@rule('constant_pad_nd', 'reflection_pad1d', 'reflection_pad2d', 'replication_pad1d', 'replication_pad2d')
def pad(t: Tracer, out: Any, x: Any, padding: Sequence[int], *args: Any) -> None:
    result: Axes = []
    for d, ids in t.axes(x):
        k = 2 * (x.ndim - 1 - d)
        before, after = (padding[k], padding[k + 1]) if k + 1 < len(padding) else (0, 0)
        if before or after:
            if before < 0 or after < 0:
                t.freeze([(d, ids)], 'a negative padding')
                continue
            fresh = t.elements.new(before + after)
            t.elements.freeze(fresh, 'zeros padded to the channels')
            ids = np.concatenate([fresh[:before], ids, fresh[before:]])
        result.append((d, ids))
    t.put(out, result)


@rule('pixel_shuffle', 'pixel_unshuffle', 'channel_shuffle', 'native_channel_shuffle')
def shuffle(t: Tracer, out: Any, x: Any, factor: int) -> None:
    channel = x.ndim - 3
    axes = t.axes(x)
    t.freeze([a for a in axes if a[0] > channel], 'a shuffle of spatial axes')
    result: Axes = [a for a in axes if a[0] < channel]
    for _, ids in [a for a in axes if a[0] == channel]:
        if out.shape == x.shape:
            grid = ids.reshape(factor, -1)
            t.elements.union(grid, grid[:1])
            result.append((channel, np.tile(grid[0], factor)))
        elif out.shape[channel] < x.shape[channel]:
            grid = ids.reshape(-1, factor * factor)
            t.elements.union(grid, grid[:, :1])
            result.append((channel, grid[:, 0].copy()))
        else:
            result.append((channel, np.repeat(ids, factor * factor)))
    t.put(out, result)


# ------------------------------------------------------------------------------------------------- residual sums
def sums(x: Any) -> dict[str, tuple[str, ...]]:
    """Module -> the modules whose outputs were added to that module's input to give ``x``."""
    return getattr(x, '_dms_sums', {})


_CARRY = {
    'view',
    '_unsafe_view',
    'reshape',
    '_reshape_alias',
    'permute',
    'transpose',
    'clone',
    'contiguous',
    '_to_copy',
}


def note_sum(t: Tracer, name: str, out: Any, tensors: Sequence[Any]) -> None:
    """Follow ``x + f(x)`` through a module, so that residual blocks need not be named."""
    short = name.partition('::')[2]
    if short in _CARRY and len(tensors) == 1 and sums(tensors[0]):
        out._dms_sums = sums(tensors[0])
    elif short in ('add', 'add_') and len(tensors) == 2:
        here = t.where()
        result: dict[str, tuple[str, ...]] = {}
        for x, branch in (tensors, tensors[::-1]):
            made = getattr(branch, '_dms_from', None)
            for path, added in sums(x).items():
                inside = path == here or here.startswith(path + '.')
                if made is not None and inside and made.startswith(path + '.') and path not in sums(branch):
                    result[path] = (*added, made)
        out._dms_sums = result
        out._dms_from = None
        out._dms_rectified = False
    elif short in ('relu', 'relu_') and len(tensors) == 1:
        # An input that is rectified already passes as it is, once nothing is added to it.
        out._dms_sums = {path: added for path, added in sums(tensors[0]).items() if path in t.rectified}
        out._dms_rectified = True
        out._dms_from = getattr(tensors[0], '_dms_from', None)
    elif short in ('mul', 'mul_', 'div') and tensors and getattr(tensors[0], '_dms_from', None) is not None:
        # A branch times a constant or a parameter (alpha, LayerScale) is zero when the branch is.
        scaled = all(x.numel() == 1 or t.source(x) for x in tensors[1:])
        out._dms_from = tensors[0]._dms_from if scaled else None
        out._dms_sums, out._dms_rectified = {}, False
    elif short in ZERO_KEEPING and len(tensors) == 1 and getattr(tensors[0], '_dms_from', None) is not None:
        # As is what it makes of a branch without a module of its own.
        out._dms_from = tensors[0]._dms_from
        out._dms_sums, out._dms_rectified = {}, False
    elif short.endswith('_') and not short.startswith('_'):
        # In place: what the tensor was is gone.
        for x in t.tensors(out):
            x._dms_sums, x._dms_rectified = {}, False


# ------------------------------------------------------------------------------------------------- pointwise
def align(t: Tracer, lists: Sequence[list[IntArray]], reason: str) -> list[IntArray]:
    """Tie the elements of one dimension of several tensors; those that go on. One without any freezes the others."""
    most = max(len(entries) for entries in lists)
    if any(not entries for entries in lists):
        t.freeze([((0,), ids) for entries in lists for ids in entries], reason)
        return []
    lead = next(entries for entries in lists if len(entries) == most)
    for entries in lists:
        if entries is lead:
            continue
        if len(entries) == 1:
            t.elements.compose(entries[0], lead)
        elif len(entries) == most and all(_same_layout(a, b) for a, b in zip(entries, lead)):
            for a, b in zip(entries, lead):
                t.elements.union(a, b)
        else:
            t.elements.union(t.elements.fuse(entries), t.elements.fuse(lead))
    return lead


def _same_layout(a: IntArray, b: IntArray) -> bool:
    return np.array_equal(np.unique(a, return_inverse=True)[1], np.unique(b, return_inverse=True)[1])


def free(x: Any) -> set[int]:
    """Dimensions along which a tensor is copies of one position."""
    return getattr(x, '_dms_free', set())


def tie(t: Tracer, tensors: Sequence[Any], reason: str) -> Entries:
    """Union what broadcasting aligns; a side that is long but carries no ids freezes the other."""
    tensors = [x for x in tensors if isinstance(x, torch.Tensor)]
    ndim = max((x.ndim for x in tensors), default=0)
    long = [x for x in tensors if any(s > 1 and d not in free(x) for d, s in enumerate(x.shape))]
    if any(len(dims) > 1 for x in long for dims, _ in t.entries(x)):
        # The same ids over the same dimensions need no factors.
        if len(long) == 1 and long[0].ndim == ndim:
            return t.entries(long[0])
        spans = [[dims for dims, _ in t.entries(x)] for x in long]
        if all(x.ndim == ndim and x.shape == long[0].shape for x in long) and all(s == spans[0] for s in spans):
            for x in long[1:]:
                for (_, a), (_, b) in zip(t.entries(x), t.entries(long[0])):
                    t.elements.union(a, b)
            return t.entries(long[0])
    result: Entries = []
    for d in range(ndim):
        present = [x for x in tensors if (k := d - (ndim - x.ndim)) >= 0 and x.shape[k] > 1 and k not in free(x)]
        lists = [t.along(x, d - (ndim - x.ndim)) for x in present]
        if any(lists):
            result += [((d,), ids) for ids in align(t, lists, reason)]
    return result


ZERO_KEEPING = set(
    'relu relu_ relu6 gelu silu silu_ hardswish hardswish_ tanh leaky_relu leaky_relu_ elu elu_ neg abs sqrt square '
    'sin native_dropout _fused_dropout dropout selu celu mish sign expm1 log1p erf round floor ceil hardtanh '
    'hardtanh_'.split()
)


def pointwise_makers(t: Tracer, name: str, args: Sequence[Any]) -> frozenset[str] | None:
    """Whose masks make dead positions of an elementwise result zero."""
    tensors = [x for x in args if isinstance(x, torch.Tensor)]
    carriers = [x for x in tensors if t.entries(x)]
    if name in ('mul', 'mul_'):
        # One factor that is zero is enough, if it carries the elements of every dimension of the product.
        spans = [{d - x.ndim for dims, _ in t.entries(x) for d in dims} for x in carriers]
        every = set().union(*spans)
        return next((m for x, span in zip(carriers, spans) if span == every and (m := t.makers(x)) is not None), None)
    if name in ('div', 'div_'):
        return t.makers(tensors[0]) if t.entries(tensors[0]) else None
    if name in ('add', 'sub', 'add_', 'sub_') and len(tensors) > 1:
        return union_makers(t, tensors) if len(carriers) == len(tensors) else None
    if name == 'pow' and len(args) > 1 and isinstance(args[1], (int, float)) and args[1] > 0:
        return t.makers(args[0])
    if name in ZERO_KEEPING and len(tensors) == 1:
        return t.makers(tensors[0])
    return None


def pointwise(t: Tracer, out: Any, *args: Any, operator: str = '', **kwargs: Any) -> None:
    tensors = t.tensors((args, kwargs))
    makers = pointwise_makers(t, operator, args)
    if operator in ('add', 'add_') and len(tensors) == 2 and tensors[1].ndim == 1 < tensors[0].ndim:
        note_bias(t, t.along(tensors[0], tensors[0].ndim - 1), tensors[1])
    axes = tie(t, tensors, 'an elementwise operation with a fixed tensor')
    for result in t.tensors(out):
        if result.ndim == max((x.ndim for x in tensors), default=0):
            t.put(result, axes, None, makers)
            result._dms_free = {
                d
                for d in range(result.ndim)
                if result.shape[d] > 1
                and all((k := d - result.ndim + x.ndim) < 0 or x.shape[k] == 1 or k in free(x) for x in tensors)
            }
        else:
            t.freeze(axes, 'an elementwise operation of unusual shape')


for _name in (
    'native_dropout _fused_dropout bernoulli bernoulli_ dropout alpha_dropout feature_dropout copy_ fill_ zero_ '
    'add_ mul_ div_ sub_ relu_ hardtanh hardtanh_ silu silu_ hardswish hardswish_ leaky_relu_ elu elu_ where '
    'masked_fill masked_fill_ clamp_ rsub rrelu_with_noise nan_to_num'
).split():
    RULES['aten::' + _name] = pointwise


@rule('_prelu_kernel', 'prelu')
def prelu(t: Tracer, out: Any, x: Any, weight: Any) -> None:
    if weight.ndim == x.ndim:
        t.put(out, tie(t, [x, weight], 'PReLU'), None, t.makers(x))
    else:
        t.put(out, bn_axes(t, x, [weight]), None, t.makers(x))


# ------------------------------------------------------------------------------------------------- reductions
def spatial(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    """Pooling and resampling: leading dimensions pass, resized ones can't carry elements."""
    first = t.tensors(out)[0]
    moved = [a for a in t.axes(x) if first.ndim != x.ndim or a[0] >= 2]
    t.freeze(moved, 'pooling or resampling along pruned positions')
    for result in t.tensors(out):
        t.put(result, [a for a in t.axes(x) if a[0] < 2] if first.ndim == x.ndim else [], None, t.makers(x))


for _name in (
    'max_pool2d_with_indices max_pool3d_with_indices max_pool2d avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d '
    '_adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d '
    'mkldnn_max_pool2d upsample_nearest1d upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d '
    'upsample_bicubic2d upsample_linear1d _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d'
).split():
    RULES['aten::' + _name] = spatial


def _reduce(t: Tracer, out: Any, x: Any, gone: set[int]) -> None:
    result = t.tensors(out)[0]
    keepdim = result.ndim == x.ndim
    rest = [(d if keepdim else d - sum(g < d for g in gone), ids) for d, ids in t.axes(x) if d not in gone]
    for tensor in t.tensors(out):
        t.put(tensor, rest, None, t.makers(x))


@rule('mean', 'amax', 'amin', 'var', 'std', 'prod', 'var_mean', 'std_mean', 'logsumexp', 'all', 'any')
def reduction(t: Tracer, out: Any, x: Any, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    gone = _dims(None if isinstance(dim, bool) or t.tensors(out)[0].ndim == 0 else dim, x.ndim)
    t.mix([a for a in t.axes(x) if a[0] in gone], 'a reduction over pruned positions')
    _reduce(t, out, x, gone)


@rule('sum', 'linalg_vector_norm', 'norm')
def total(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    """Sums pass over dead positions that are zero."""
    lists = [a for a in args if isinstance(a, (list, tuple))]
    dim = kwargs.get('dim', lists[0] if lists else next((a for a in args if type(a) is int), None))
    gone = _dims(None if t.tensors(out)[0].ndim == 0 else dim, x.ndim)
    for d, ids in t.axes(x):
        if d in gone and not t.request(x, ids):
            t.freeze([(d, ids)], 'a sum over pruned positions')
    _reduce(t, out, x, gone)


@rule('max', 'min')
def extremum(t: Tracer, out: Any, x: Any, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    if isinstance(dim, torch.Tensor):
        pointwise(t, out, x, dim)
    else:
        reduction(t, out, x, dim)


@rule('_softmax', '_safe_softmax', '_log_softmax', 'softmax', 'log_softmax', 'cumsum', 'glu_', 'sort', 'argsort')
def softmax(t: Tracer, out: Any, x: Any, dim: int = -1, *args: Any, **kwargs: Any) -> None:
    dim = _wrap(dim, x.ndim)
    t.freeze([a for a in t.axes(x) if a[0] == dim], 'a softmax, sum or sort along pruned positions')
    for tensor in t.tensors(out):
        t.put(tensor, [a for a in t.axes(x) if a[0] != dim])


@rule('topk', 'kthvalue', 'median', 'mode', 'cummax', 'cummin')
def selection(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    t.freeze(t.entries(x), 'a choice among pruned positions')


@rule('full', 'zeros', 'ones', 'new_zeros', 'new_ones', 'new_full')
def constant(t: Tracer, out: Any, *args: Any, **kwargs: Any) -> None:
    """A new tensor has whatever lengths its maker asked for: elements that tie what it meets."""
    t.put(out, [(d, t.elements.new(out.shape[d])) for d in range(out.ndim) if out.shape[d] > 1])


@rule('glu')
def glu(t: Tracer, out: Any, x: Any, dim: int = -1) -> None:
    dim = _wrap(dim, x.ndim)
    result: Axes = []
    for d, ids in t.axes(x):
        if d == dim:
            a, b = np.split(ids, 2)
            t.elements.union(a, b)
            ids = a
        result.append((d, ids))
    t.put(out, result, None, t.makers(x))


# ------------------------------------------------------------------------------------------------- norms
def bn_axes(t: Tracer, x: Any, vectors: Sequence[Any]) -> Axes:
    lists = t.along(x, 1)
    t.freeze([a for a in t.axes(x) if a[0] != 1], 'a normalisation over pruned positions')
    vectors = [v for v in vectors if isinstance(v, torch.Tensor) and v.ndim == 1 and v.shape[0] > 1]
    line = (
        align(t, [lists, *(t.along(v, 0) for v in vectors)], 'a normalisation with a fixed vector')
        if (lists or any(t.along(v, 0) for v in vectors))
        else []
    )
    return [(1, ids) for ids in line]


@rule('native_layer_norm', 'native_group_norm', '_fused_rms_norm', 'rms_norm', 'layer_norm', 'group_norm')
def free_norm(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    tensors = t.tensors((x, args, kwargs))
    name = 'a normalisation that is no module of its own'
    for y in tensors:
        t.freeze([e for e in t.entries(y) if e[0] != (0,) or y is not x], name)


@rule(
    'native_batch_norm',
    '_native_batch_norm_legit',
    '_native_batch_norm_legit_no_training',
    '_native_batch_norm_legit_functional',
    'cudnn_batch_norm',
    'miopen_batch_norm',
    'batch_norm',
    '_batch_norm_with_update',
    '_batch_norm_no_update',
)
def batch_norm(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    vectors = [a for a in args[:4] if isinstance(a, torch.Tensor)]
    axes = bn_axes(t, x, vectors)
    results = t.tensors(out)
    names = frozenset(s for v in vectors[:2] if (s := t.source(v)))
    t.put(results[0], axes, None, names if len(names) == 2 else None)
    for saved in results[1:]:
        if saved.ndim == 1 and saved.shape[0] == x.shape[1]:
            t.put(saved, [(0, ids) for _, ids in axes])


# ------------------------------------------------------------------------------------------------- contractions
def contract(t: Tracer, x: Any, x_dim: int, w: Any, w_dim: int, operator: str) -> None:
    """Tie the contracted dimension of both sides and note which parameter takes the mask."""
    a, b = t.along(x, x_dim), t.along(w, w_dim)
    holder, dim = (w, w_dim) if t.source(w) else (x, x_dim)
    own = bool(t.source(holder))
    if own:
        t.produce(holder, [ids for d, ids in t.axes(holder) if d != dim])
    if not a and not b:
        return
    if not a or not b:
        t.freeze([(0, ids) for ids in a + b], f'{operator} with an input that nothing prunes')
        return
    # Dead positions must be zero on one side at least; both sides' masks are the paper's choice for queries and keys.
    if own:
        other, lists = (x, a) if holder is w else (w, b)
        if not t.masked(other, lists):
            t.consume(holder, b if holder is w else a)
    else:
        asked = [t.request(y, ids) for y, lists in ((x, a), (w, b)) for ids in lists]
        if not any(asked):
            t.freeze([(0, ids) for ids in a + b], f'{operator} of two activations whose dead positions are not zero')
        t.trace.head_dims += a + b
    align(t, [a, b], operator)


def note_bias(t: Tracer, produced: list[IntArray], bias: Any) -> None:
    """Which entry of a bias goes with which row of a weight."""
    entries = t.along(bias, bias.ndim - 1)
    if len(produced) == len(entries) == 1 and len(produced[0]) == len(entries[0]):
        t.trace.biases.append((produced[0], entries[0]))


def product_makers(t: Tracer, x: Any, w: Any, bias: Any = None) -> frozenset[str] | None:
    """What makes the output of ``x @ w`` zero: the weight's other dimension, and the bias with it."""
    makers = t.makers(w)
    if makers is None or not isinstance(bias, torch.Tensor):
        return makers
    extra = t.makers(bias)
    return None if extra is None else makers | extra


@rule('convolution', '_convolution', 'mkldnn_convolution', 'cudnn_convolution')
def convolution(
    t: Tracer,
    out: Any,
    x: Any,
    w: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    *args: Any,
) -> None:
    t.mix([a for a in t.axes(x) if a[0] != 1], 'a convolution along pruned positions')
    in_dim, out_dim = (0, 1) if transposed else (1, 0)
    if groups == 1:
        contract(t, x, 1, w, in_dim, 'a convolution')
        produced = t.along(w, out_dim)
    else:
        produced = _grouped(t, out, x, w, transposed, groups)
    if isinstance(bias, torch.Tensor) and bias.shape[0] > 1:
        entries = t.along(bias, 0)
        note_bias(t, produced, bias)
        if entries or produced:
            produced = align(t, [produced, entries], 'a bias that does not fit its weight')
    t.put(out, [(1, ids) for ids in produced], None, product_makers(t, x, w, bias))
    places = math.prod((x if transposed else out).shape[2:]) * math.prod(w.shape[2:]) * x.shape[0]
    t.cost('a convolution', places, [(w, 0), (w, 1)])


def _grouped(t: Tracer, out: Any, x: Any, w: Any, transposed: bool, groups: int) -> list[IntArray]:
    width, out_width = x.shape[1] // groups, out.shape[1] // groups
    xs, ws = t.along(x, 1), t.axes(w)
    name = t.source(w)
    if not xs or name is None:
        t.freeze([(1, ids) for ids in xs] + ws, 'a grouped convolution of an input that nothing prunes')
        return [] if transposed else t.along(w, 0)
    xs = [t.elements.fuse(xs)]
    grid = xs[0].reshape(groups, width)
    if transposed:
        for ids in t.along(w, 0):
            t.elements.union(ids, xs[0])
    if width < groups:
        # Whole groups go: depthwise, and cardinality as in ResNeXt.
        t.elements.union(grid, grid[:, :1])
        t.freeze([a for a in ws if a[0] == 1], 'the width inside each group of a grouped convolution')
        produced = np.repeat(grid[:, 0], out_width)
        if not transposed:
            for ids in t.along(w, 0):
                t.elements.union(ids, produced)
                produced = ids
        t.grouped[name] = 'groups'
        return [produced]
    t.elements.union(grid, grid[:1])
    t.grouped[name] = 'width'
    if transposed:
        t.consume(w, t.along(w, 0))
        return [np.tile(ids, groups) for ids in t.along(w, 1)]
    if t.along(w, 1):
        t.elements.union(t.along(w, 1)[0], grid[0])
        t.consume(w, t.along(w, 1))
    t.produce(w, t.along(w, 0))
    for ids in t.along(w, 0):
        rows = ids.reshape(groups, out_width)
        t.elements.union(rows, rows[:1])
    return t.along(w, 0)


@rule('mm')
def mm(t: Tracer, out: Any, x: Any, w: Any) -> None:
    contract(t, x, 1, w, 0, 'a matrix product')
    left, right = t.along(x, 0), t.along(w, 1)
    t.put(out, [(0, ids) for ids in left] + [(1, ids) for ids in right], None, t.makers(w if right or not left else x))
    t.cost('a matrix product', 1, [(x, 0), (x, 1), (w, 1)])


@rule('addmm')
def addmm(t: Tracer, out: Any, bias: Any, x: Any, w: Any, **kwargs: Any) -> None:
    note_bias(t, t.along(w, 1), bias)
    mm(t, out, x, w)
    makers = union_makers(t, [out, bias])
    t.put(out, tie(t, [out, bias], 'a bias that does not fit its weight'), None, makers)


@rule('bmm')
def bmm(t: Tracer, out: Any, x: Any, w: Any) -> None:
    contract(t, x, 2, w, 1, 'a batched matrix product')
    batch, other = t.along(x, 0), t.along(w, 0)
    lead: list[IntArray] = []
    if batch or other:
        lead = align(t, [batch, other], 'a batched matrix product with a fixed batch')
        t.trace.heads += lead
        # The paper masks heads on queries, keys and values alike.
        for y, lists in ((x, batch), (w, other)):
            for ids in lists:
                t.request(y, ids)
    left, right = t.along(x, 1), t.along(w, 2)
    if not (t.source(x) or t.source(w)):
        t.trace.head_dims += right
        for ids in right:
            t.request(w, ids)
    axes = [(0, ids) for ids in lead] + [(1, ids) for ids in left] + [(2, ids) for ids in right]
    t.put(out, axes, None, t.makers(w if right or not left else x))
    t.cost('a batched matrix product', 1, [(x, 0), (x, 1), (x, 2), (w, 2)])


@rule('baddbmm')
def baddbmm(t: Tracer, out: Any, bias: Any, x: Any, w: Any, **kwargs: Any) -> None:
    bmm(t, out, x, w)
    t.put(out, tie(t, [out, bias], 'a bias that does not fit its product'))


@rule('mv')
def mv(t: Tracer, out: Any, x: Any, w: Any) -> None:
    contract(t, x, 1, w, 0, 'a matrix product')
    t.put(out, [(0, ids) for ids in t.along(x, 0)], None, t.makers(x))


@rule('embedding')
def embedding(t: Tracer, out: Any, weight: Any, index: Any, *args: Any, **kwargs: Any) -> None:
    t.freeze([(0, ids) for ids in t.along(weight, 0)], 'the vocabulary of an embedding')
    t.produce(weight, t.along(weight, 1))
    t.put(out, [(out.ndim - 1, ids) for ids in t.along(weight, 1)], None, t.makers(weight))


@rule('index_select')
def index_select(t: Tracer, out: Any, x: Any, dim: int, index: Any) -> None:
    dim = _wrap(dim, x.ndim)
    t.freeze([a for a in t.axes(x) if a[0] == dim], f'index_select on dimension {dim}')
    t.put(out, [a for a in t.axes(x) if a[0] != dim], None, t.makers(x))


@rule('index', '_unsafe_index')
def index(t: Tracer, out: Any, x: Any, indices: Sequence[Any]) -> None:
    """Indexed dimensions can't carry elements (the values of an index are not known); the others pass."""
    indexed = [d for d, i in enumerate(indices) if i is not None]
    t.freeze([a for a in t.axes(x) if a[0] in indexed], 'an index into pruned positions')
    rank = max((i.ndim for i in indices if i is not None), default=0)
    if any(i is not None and i.dtype == torch.bool for i in indices):
        t.freeze(t.axes(x), 'an index by a boolean mask')
        return
    together = indexed == list(range(indexed[0], indexed[-1] + 1)) if indexed else True
    place = indexed[0] if together and indexed else 0
    result: Axes = []
    for d, ids in t.axes(x):
        if d not in indexed:
            before = d - sum(i < d for i in indexed)
            result.append((before if before < place and together else before + rank, ids))
    t.put(out, result, None, t.makers(x))


@rule('gather', 'take_along_dim')
def gather(t: Tracer, out: Any, x: Any, dim: int, index: Any, *args: Any, **kwargs: Any) -> None:
    t.freeze(t.axes(x) + t.axes(index), 'a gather from pruned positions')
