"""What each ATen operator does to element ids: a table from operator name to rule (DESIGN 3.1).

A tensor's *axes* are a list of ``(dim, ids)``: the positions along ``dim`` are the elements ``ids``. A dimension may
have several entries (a position then lives only if all of its elements do). A rule gets the tracer, the operator's
arguments and its output. An operator without a rule freezes what it touches.
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
@rule('clone', 'detach', 'alias', '_to_copy', 'lift_fresh', 'contiguous', 'view_as_real', 'to', 'lift', 'copy')
def identity(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    t.put(out, t.axes(x), t.source(x))


@rule('zeros_like', 'ones_like', 'empty_like', 'rand_like', 'randn_like', 'full_like', 'new_zeros', 'new_ones')
def like(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    if tuple(out.shape) == tuple(x.shape):
        t.put(out, t.axes(x))


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
    axes = t.axes(x)
    if axes:
        t.put(out, view_axes(t, axes, x.shape, out.shape), t.source(x))
    else:
        t.put(out, [], t.source(x))


def view_axes(t: Tracer, axes: Axes, old: Sequence[int], new: Sequence[int]) -> Axes:
    if 0 in old:
        t.freeze(axes, 'a reshape of an empty tensor')
        return []
    result: Axes = []
    blocks = reshape_blocks([int(s) for s in old], [int(s) for s in new])
    for dim, ids in axes:
        rows, columns = next(b for b in blocks if dim in b[0])
        shape = [1] * len(rows)
        shape[dim - rows.start] = len(ids)
        full = np.broadcast_to(ids.reshape(shape), [old[r] for r in rows]).reshape([new[c] for c in columns])
        varying = [d for d in range(full.ndim) if full.shape[d] > 1 and (np.take(full, [0], d) != full).any()]
        if not varying:
            if len(ids) > 1:
                t.freeze([(dim, ids)], 'a reshape of channels that are all tied together')
            continue
        # A dimension cut in several: the kept positions have to stay a rectangle, so all but one part are tied.
        keep = max(varying, key=lambda d: (full.shape[d], d))
        if len(varying) > 1:
            first = full[tuple(slice(None) if d == keep else slice(0, 1) for d in range(full.ndim))]
            t.elements.union(full, first)
        line = full[tuple(slice(None) if d == keep else 0 for d in range(full.ndim))]
        result.append((columns[keep], np.ascontiguousarray(line)))
    return result


@rule('permute')
def permute(t: Tracer, out: Any, x: Any, dims: Sequence[int]) -> None:
    order = [_wrap(d, x.ndim) for d in dims]
    t.put(out, [(order.index(d), ids) for d, ids in t.axes(x)], t.source(x))


@rule('transpose', 't', 'transpose_', 't_', 'numpy_T', 'swapaxes')
def transpose(t: Tracer, out: Any, x: Any, a: int = 0, b: int = 1) -> None:
    if x.ndim < 2:
        return identity(t, out, x)
    order = list(range(x.ndim))
    a, b = _wrap(a, x.ndim), _wrap(b, x.ndim)
    order[a], order[b] = order[b], order[a]
    permute(t, out, x, order)


@rule('expand')
def expand(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    t.put(out, [(d + out.ndim - x.ndim, ids) for d, ids in t.axes(x)], t.source(x))


@rule('repeat')
def repeat(t: Tracer, out: Any, x: Any, repeats: Sequence[int]) -> None:
    lead = len(repeats) - x.ndim
    t.put(out, [(d + lead, np.tile(ids, repeats[d + lead])) for d, ids in t.axes(x)])


@rule('flip')
def flip(t: Tracer, out: Any, x: Any, dims: Sequence[int]) -> None:
    turned = _dims(dims, x.ndim)
    t.put(out, [(d, ids[::-1].copy() if d in turned else ids) for d, ids in t.axes(x)])


@rule('slice')
def slice_(t: Tracer, out: Any, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> None:
    dim = _wrap(dim, x.ndim)
    whole = out.shape[dim] == x.shape[dim]
    axes = [(d, ids if whole or d != dim else ids[start:end:step]) for d, ids in t.axes(x)]
    t.put(out, axes, t.source(x))


@rule('select')
def select(t: Tracer, out: Any, x: Any, dim: int, index: int) -> None:
    dim = _wrap(dim, x.ndim)
    t.freeze([a for a in t.axes(x) if a[0] == dim], f'select on dimension {dim}')
    t.put(out, [(d - (d > dim), ids) for d, ids in t.axes(x) if d != dim], t.source(x))


@rule('unbind')
def unbind(t: Tracer, out: Any, x: Any, dim: int = 0) -> None:
    for piece in out:
        select(t, piece, x, dim, 0)


@rule('split', 'split_with_sizes', 'chunk', 'unsafe_split', 'unsafe_chunk', 'unsafe_split_with_sizes')
def split(t: Tracer, out: Any, x: Any, sizes: Any, dim: int = 0) -> None:
    dim = _wrap(dim, x.ndim)
    lengths = [piece.shape[dim] for piece in out]
    for _, ids in [a for a in t.axes(x) if a[0] == dim]:
        pieces = np.split(ids, np.cumsum(lengths)[:-1])
        if len(set(lengths)) == 1:
            # Equal pieces may come from chunk(): they must stay equal, or the cut moves.
            for piece in pieces[1:]:
                t.elements.union(piece, pieces[0])
    offset = 0
    for piece, length in zip(out, lengths):
        cut = slice(offset, offset + length)
        t.put(piece, [(d, ids[cut] if d == dim else ids) for d, ids in t.axes(x)], t.source(x))
        offset += length


@rule('cat', 'concat')
def cat(t: Tracer, out: Any, tensors: Sequence[Any], dim: int = 0) -> None:
    dim = _wrap(dim, out.ndim)
    tensors = [x for x in tensors if x.ndim == out.ndim]
    result: Axes = []
    for d in range(out.ndim):
        lists = [t.along(x, d) for x in tensors]
        most = max(len(entries) for entries in lists)
        if not most:
            continue
        if d != dim:
            if all(len(entries) == most for entries in lists):
                for entries in lists[1:]:
                    for a, b in zip(entries, lists[0]):
                        t.elements.union(a, b)
                result += [(d, ids) for ids in lists[0]]
            else:
                t.freeze([(d, ids) for entries in lists for ids in entries], 'a concatenation with a fixed tensor')
            continue
        if most > 1:
            t.freeze([(d, ids) for entries in lists for ids in entries], 'a concatenation of compound axes')
            continue
        parts = []
        for x, entries in zip(tensors, lists):
            if entries:
                parts.append(entries[0])
            else:
                fresh = t.elements.new(x.shape[d])
                t.elements.freeze(fresh, 'part of a concatenation that nothing prunes')
                parts.append(fresh)
        result.append((d, np.concatenate(parts)))
    t.put(out, result)


@rule('stack')
def stack(t: Tracer, out: Any, tensors: Sequence[Any], dim: int = 0) -> None:
    dim = _wrap(dim, out.ndim)
    tie(t, tensors, 'a stack with a fixed tensor')
    t.put(out, [(d + (d >= dim), ids) for d, ids in t.axes(tensors[0])])


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


# ------------------------------------------------------------------------------------------------- pointwise
def tie(t: Tracer, tensors: Sequence[Any], reason: str) -> Axes:
    """Union what broadcasting aligns; a side that is long but carries no ids freezes the other."""
    tensors = [x for x in tensors if isinstance(x, torch.Tensor)]
    ndim = max((x.ndim for x in tensors), default=0)
    result: Axes = []
    for d in range(ndim):
        present = [x for x in tensors if d - (ndim - x.ndim) >= 0 and x.shape[d - (ndim - x.ndim)] > 1]
        lists = [t.along(x, d - (ndim - x.ndim)) for x in present]
        most = max((len(entries) for entries in lists), default=0)
        if not most:
            continue
        if any(len(entries) != most for entries in lists):
            t.freeze([(d, ids) for entries in lists for ids in entries], reason)
            continue
        for entries in lists[1:]:
            for a, b in zip(entries, lists[0]):
                t.elements.union(a, b)
        result += [(d, ids) for ids in lists[0]]
    return result


def pointwise(t: Tracer, out: Any, *args: Any, **kwargs: Any) -> None:
    tensors = t.tensors((args, kwargs))
    axes = tie(t, tensors, 'an elementwise operation with a fixed tensor')
    for result in t.tensors(out):
        if result.ndim == max((x.ndim for x in tensors), default=0):
            t.put(result, axes)
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
    axes = tie(t, [x, weight], 'PReLU') if weight.ndim == x.ndim else bn_axes(t, x, [weight])
    t.put(out, axes)


# ------------------------------------------------------------------------------------------------- reductions
def spatial(t: Tracer, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    """Pooling and resampling: leading dimensions pass, resized ones can't carry elements."""
    first = t.tensors(out)[0]
    moved = [a for a in t.axes(x) if first.ndim != x.ndim or a[0] >= 2]
    t.freeze(moved, 'pooling or resampling along pruned positions')
    for result in t.tensors(out):
        t.put(result, [a for a in t.axes(x) if a[0] < 2] if first.ndim == x.ndim else [])


for _name in (
    'max_pool2d_with_indices max_pool3d_with_indices max_pool2d avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d '
    '_adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d '
    'mkldnn_max_pool2d upsample_nearest1d upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d '
    'upsample_bicubic2d upsample_linear1d _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d'
).split():
    RULES['aten::' + _name] = spatial


@rule('mean', 'sum', 'amax', 'amin', 'var', 'std', 'norm', 'prod', 'var_mean', 'std_mean', 'logsumexp', 'all', 'any')
def reduction(t: Tracer, out: Any, x: Any, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    result = t.tensors(out)[0]
    gone = _dims(None if isinstance(dim, bool) or result.ndim == 0 else dim, x.ndim)
    axes = t.axes(x)
    t.freeze([a for a in axes if a[0] in gone], 'a reduction over pruned positions')
    keepdim = result.ndim == x.ndim
    rest = [(d if keepdim else d - sum(g < d for g in gone), ids) for d, ids in axes if d not in gone]
    for tensor in t.tensors(out):
        t.put(tensor, rest)


@rule('max', 'min')
def extremum(t: Tracer, out: Any, x: Any, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    if isinstance(dim, torch.Tensor):
        pointwise(t, out, x, dim)
    else:
        reduction(t, out, x, dim)


@rule('_softmax', '_log_softmax', 'softmax', 'log_softmax', 'cumsum', 'glu_', 'sort', 'argsort')
def softmax(t: Tracer, out: Any, x: Any, dim: int = -1, *args: Any, **kwargs: Any) -> None:
    dim = _wrap(dim, x.ndim)
    t.freeze([a for a in t.axes(x) if a[0] == dim], 'a softmax, sum or sort along pruned positions')
    for tensor in t.tensors(out):
        t.put(tensor, [a for a in t.axes(x) if a[0] != dim])


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
    t.put(out, result)


# ------------------------------------------------------------------------------------------------- norms
def bn_axes(t: Tracer, x: Any, vectors: Sequence[Any]) -> Axes:
    axes = [(1, ids) for ids in t.along(x, 1)]
    t.freeze([a for a in t.axes(x) if a[0] != 1], 'a normalisation over pruned positions')
    for vector in vectors:
        if not isinstance(vector, torch.Tensor) or vector.ndim != 1:
            continue
        entries = t.along(vector, 0)
        if len(entries) == len(axes):
            for a, (_, b) in zip(entries, axes):
                t.elements.union(a, b)
        elif vector.shape[0] > 1:
            t.freeze([(0, ids) for ids in entries] + axes, 'a normalisation with a fixed vector')
    return axes


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
    t.put(results[0], axes)
    for saved in results[1:]:
        if saved.ndim == 1 and saved.shape[0] == x.shape[1]:
            t.put(saved, [(0, ids) for _, ids in axes])


# ------------------------------------------------------------------------------------------------- contractions
def contract(t: Tracer, x: Any, x_dim: int, w: Any, w_dim: int, operator: str) -> None:
    """Tie the contracted dimension of both sides and note which parameter takes the mask."""
    a, b = t.along(x, x_dim), t.along(w, w_dim)
    holder, dim, mine = (w, w_dim, b) if t.source(w) else (x, x_dim, a)
    if not t.source(holder):
        t.freeze([(0, ids) for ids in a + b], f'{operator} of two activations')
        return
    t.produce(holder, [ids for d, ids in t.axes(holder) if d != dim])
    if len(a) != len(b):
        t.freeze([(0, ids) for ids in a + b], f'{operator} with an input that nothing prunes')
        return
    for left, right in zip(a, b):
        t.elements.union(left, right)
    t.consume(holder, mine)


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
    t.freeze([a for a in t.axes(x) if a[0] != 1], 'a convolution along pruned positions')
    in_dim, out_dim = (0, 1) if transposed else (1, 0)
    if groups == 1:
        contract(t, x, 1, w, in_dim, 'a convolution')
        produced = t.along(w, out_dim)
    else:
        produced = _grouped(t, out, x, w, transposed, groups)
    axes: Axes = [(1, ids) for ids in produced]
    if isinstance(bias, torch.Tensor):
        entries = t.along(bias, 0)
        if len(entries) == len(axes):
            for a, (_, b) in zip(entries, axes):
                t.elements.union(a, b)
        else:
            t.freeze([(0, ids) for ids in entries] + axes, 'a bias that does not fit its weight')
    t.put(out, axes)
    places = math.prod((x if transposed else out).shape[2:]) * math.prod(w.shape[2:]) * x.shape[0]
    t.cost('a convolution', places, [(w, 0), (w, 1)])


def _grouped(t: Tracer, out: Any, x: Any, w: Any, transposed: bool, groups: int) -> list[IntArray]:
    width, out_width = x.shape[1] // groups, out.shape[1] // groups
    xs, ws = t.along(x, 1), t.axes(w)
    name = t.source(w)
    if len(xs) != 1 or name is None:
        t.freeze([(1, ids) for ids in xs] + ws, 'a grouped convolution of an input that nothing prunes')
        return [] if transposed else t.along(w, 0)
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
    t.put(out, [(0, ids) for ids in t.along(x, 0)] + [(1, ids) for ids in t.along(w, 1)])
    t.cost('a matrix product', 1, [(x, 0), (x, 1), (w, 1)])


@rule('addmm')
def addmm(t: Tracer, out: Any, bias: Any, x: Any, w: Any, **kwargs: Any) -> None:
    mm(t, out, x, w)
    t.put(out, tie(t, [out, bias], 'a bias that does not fit its weight'))


@rule('bmm')
def bmm(t: Tracer, out: Any, x: Any, w: Any) -> None:
    contract(t, x, 2, w, 1, 'a batched matrix product')
    batch = [(0, ids) for ids in t.along(x, 0)]
    other = [(0, ids) for ids in t.along(w, 0)]
    if len(batch) == len(other):
        for (_, a), (_, b) in zip(batch, other):
            t.elements.union(a, b)
    else:
        t.freeze(batch + other, 'a batched matrix product with a fixed batch')
        batch = []
    t.put(out, batch + [(1, ids) for ids in t.along(x, 1)] + [(2, ids) for ids in t.along(w, 2)])
    t.cost('a batched matrix product', 1, [(x, 0), (x, 1), (x, 2), (w, 2)])


@rule('mv')
def mv(t: Tracer, out: Any, x: Any, w: Any) -> None:
    contract(t, x, 1, w, 0, 'a matrix product')
    t.put(out, [(0, ids) for ids in t.along(x, 0)])


@rule('embedding')
def embedding(t: Tracer, out: Any, weight: Any, index: Any, *args: Any, **kwargs: Any) -> None:
    t.freeze([(0, ids) for ids in t.along(weight, 0)], 'the vocabulary of an embedding')
    t.produce(weight, t.along(weight, 1))
    t.put(out, [(out.ndim - 1, ids) for ids in t.along(weight, 1)])


@rule('index_select')
def index_select(t: Tracer, out: Any, x: Any, dim: int, index: Any) -> None:
    dim = _wrap(dim, x.ndim)
    t.freeze([a for a in t.axes(x) if a[0] == dim], f'index_select on dimension {dim}')
    t.put(out, [a for a in t.axes(x) if a[0] != dim])
