"""Picking and writing positions by number."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .making import Input, flags, own, whole

aten = torch.ops.aten


def rows(count: int, high: int) -> Input:
    """Different numbers below ``high``."""
    return lambda generator: torch.randperm(high, generator=generator)[:count]


def four_of(*shape: int) -> Input:
    """A bool tensor with four places."""
    return lambda generator: (torch.randperm(math.prod(shape), generator=generator) < 4).view(shape)


def offsets(generator: torch.Generator) -> torch.Tensor:
    """Where bags begin."""
    return torch.tensor([0, 2, 3])


_shape: tuple[int, ...]
for _shape in ((4, 3), (4, 3, 2), (4, 2, 2, 3)):
    own('index_select', lambda x, i: torch.index_select(x, 0, i), _shape, whole(4, 5))
    own('index', lambda x, i: x[i], _shape, whole(4, 5))
    own('index', lambda x, i: x[:, i], _shape, whole(2, 3, 2))
    own('_unsafe_index', lambda x, i: aten._unsafe_index(x, [None, i]), _shape, whole(2, 3))
    own('gather', lambda x, i: torch.gather(x, 0, i), _shape, whole(4, 5, *_shape[1:]))
    own('take_along_dim', lambda x, i: torch.take_along_dim(x, i, 0), _shape, whole(4, 5, *_shape[1:]))
    _source = (2, *_shape[1:])
    own('index_add', lambda x, i, s: torch.index_add(x, 0, i, s), _shape, whole(4, 2), _source)
    own('index_copy', lambda x, i, s: torch.index_copy(x, 0, i, s), _shape, rows(2, 4), _source)
    own('index_fill', lambda x, i: torch.index_fill(x, 0, i, 1.5), _shape, rows(2, 4))
    own('index_fill', lambda x, i: torch.index_fill(x, 0, i, 0), _shape, rows(2, 4))
    own('index_reduce', lambda x, i, s: torch.index_reduce(x, 0, i, s, 'amax'), _shape, rows(2, 4), _source)
    own('index_put', lambda x, i, s: torch.index_put(x, [i], s), _shape, rows(2, 4), _source)
    own('index_put_', lambda x, i, s: x.index_put_([i], s, accumulate=True), _shape, whole(4, 2), _source)
    own('_index_put_impl_', lambda x, i, s: aten._index_put_impl_(x, [i], s), _shape, rows(2, 4), _source)
    own('scatter', lambda x, i, s: torch.scatter(x, 0, i, s), _shape, whole(1, *_source), _source)
    own('scatter', lambda x, i: torch.scatter(x, 0, i, 1.5), _shape, whole(4, *_source))
    own('scatter_add', lambda x, i, s: torch.scatter_add(x, 0, i, s), _shape, whole(4, *_source), _source)
    own('scatter_', lambda x, i: x.scatter_(0, i, 0.0), _shape, whole(4, *_source))
    own('scatter_add_', lambda x, i, s: x.scatter_add_(0, i, s), _shape, whole(4, *_source), _source)
    own('scatter_reduce', lambda x, i, s: x.scatter_reduce(0, i, s, 'amax'), _shape, whole(4, *_source), _source)
    own('select_scatter', lambda x, s: torch.select_scatter(x, s, 0, 1), _shape, _shape[1:])
    own('slice_scatter', lambda x, s: torch.slice_scatter(x, s, 0, 1, 3), _shape, _source)
    own('slice_scatter', lambda x, s: torch.slice_scatter(x, s, 1, 0, None, 2), (*_shape[:1], 6), (*_shape[:1], 3))
    own('masked_scatter', lambda x, m, s: x.masked_scatter(m, s), _shape, flags(*_shape), _shape)
    own('index_put_', lambda x, m: x.index_put_([m], torch.tensor(0.0, dtype=x.dtype)), _shape, flags(*_shape[:2]))
own('index_put_', lambda x, m, s: x.index_put_([m], s), (6, 3), four_of(6), (4, 3))
own('index_put_', lambda x, m, s: x.index_put_([m], s), (2, 3, 5), four_of(2, 3), (4, 5))
own('index_put', lambda x, m, s: aten.index_put(x, [None, m], s), (2, 6, 3), four_of(6), (4, 3))
own('index_put', lambda x, m, s: torch.index_put(x, [m], s, accumulate=True), (2, 3, 5), four_of(2, 3), (5,))
own('gather', lambda x, i: torch.gather(x, 1, i.unsqueeze(-1).expand(-1, -1, x.shape[-1])), (2, 4, 3), whole(4, 2, 5))
own('gather', lambda x, i: torch.gather(x, 1, i.unsqueeze(-1).repeat(1, 1, x.shape[-1])), (2, 4, 3), whole(4, 2, 5))
own('gather', lambda x, i: torch.gather(x, 1, i), (4, 3), whole(3, 2, 3))
own('index', lambda x, i, j: x[i, j], (4, 3, 2), whole(4, 5), whole(3, 5))
own('index', lambda x, i, j: x[i, :, j], (4, 3, 2, 5), whole(4, 5, 1), whole(2, 2))
own('index', lambda x, i: x[:, i], (4, 3, 2), whole(3, 5))
own('index', lambda x, i: x[i.view(-1)].view(*i.shape, -1).permute(2, 0, 1), (7, 3), whole(7, 4, 4))
own('index_put', lambda x, i, j, s: aten.index_put(x, [None, i, j], s), (2, 4, 3, 5), rows(3, 4), whole(3, 3), (3, 5))
own('embedding', lambda w, i: F.embedding(i, w), (7, 4), whole(7, 2, 3))
own('embedding', lambda w, i: F.embedding(i, w), (7, 4), whole(7, 5))
own('embedding', lambda w, i: F.embedding(i, w), (7, 4), whole(7, 3))
for _k, _mode in enumerate(('sum', 'mean', 'max')):
    own('_embedding_bag', lambda w, i, m=_mode: F.embedding_bag(i, w, mode=m), (7, 4), whole(7, 3, 2))
    for _name in ('_embedding_bag', '_embedding_bag_forward_only'):
        _f = getattr(aten, _name)
        own(
            _name,
            lambda w, i, o, f=_f, k=_k: f(w, i, o, False, k),
            (7, 4),
            whole(7, 6),
            lambda g: torch.tensor([0, 2, 3]),
        )

for _shape in ((4, 4), (2, 4, 4), (2, 3, 4)):
    for _offset in (0, 1):
        own('diagonal', lambda x, k=_offset: torch.diagonal(x, k, -2, -1), _shape)
        own('tril', lambda x, k=_offset: torch.tril(x, k), _shape)
        own('triu', lambda x, k=_offset: torch.triu(x, k), _shape)
        own('diag_embed', lambda x, k=_offset: torch.diag_embed(x, k), _shape)
    own('tril_', lambda x: x.tril_(), _shape)
    own('diagonal', lambda x: torch.diagonal(x, 0, 0, 1), _shape)
own('trace', lambda x: torch.trace(x @ x.T), (4, 3))
own('trace', lambda x, y: torch.trace(x * y), (4, 4), (4, 4))
