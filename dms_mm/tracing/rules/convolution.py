"""Operators over space: convolutions, pooling, resampling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ..elements import IntArray
from ..ledger import Ledger, tensors_of
from .layout import align, note_bias
from .products import contract, product_makers
from .table import rule


@rule('convolution', '_convolution', 'mkldnn_convolution', 'cudnn_convolution')
def convolution(
    ledger: Ledger,
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
    ledger.mix([a for a in ledger.axes(x) if a[0] != 1], 'a convolution along pruned positions')
    in_dim, out_dim = (0, 1) if transposed else (1, 0)
    if groups == 1:
        contract(ledger, x, 1, w, in_dim, 'a convolution')
        produced = ledger.along(w, out_dim)
    else:
        produced = _grouped(ledger, out, x, w, transposed, groups)
    if isinstance(bias, torch.Tensor) and bias.shape[0] > 1:
        entries = ledger.along(bias, 0)
        note_bias(ledger, produced, bias)
        if entries or produced:
            produced = align(ledger, [produced, entries], 'a bias that does not fit its weight')
    ledger.put(out, [(1, ids) for ids in produced], None, product_makers(ledger, x, w, bias))
    places = math.prod((x if transposed else out).shape[2:]) * math.prod(w.shape[2:]) * x.shape[0]
    ledger.cost(places, [(w, 0), (w, 1)])


def _grouped(ledger: Ledger, out: Any, x: Any, w: Any, transposed: bool, groups: int) -> list[IntArray]:
    width, out_width = x.shape[1] // groups, out.shape[1] // groups
    xs, ws = ledger.along(x, 1), ledger.axes(w)
    name = ledger.source(w)
    if not xs or name is None:
        ledger.freeze([(1, ids) for ids in xs] + ws, 'a grouped convolution of an input that nothing prunes')
        return [] if transposed else ledger.along(w, 0)
    xs = [ledger.elements.fuse(xs)]
    grid = xs[0].reshape(groups, width)
    if transposed:
        for ids in ledger.along(w, 0):
            ledger.elements.union(ids, xs[0])
    if width < groups:
        # Whole groups go: depthwise, and cardinality as in ResNeXt.
        ledger.elements.union(grid, grid[:, :1])
        ledger.freeze([a for a in ws if a[0] == 1], 'the width inside each group of a grouped convolution')
        produced = np.repeat(grid[:, 0], out_width)
        if not transposed:
            for ids in ledger.along(w, 0):
                ledger.elements.union(ids, produced)
                produced = ids
        ledger.trace.grouped[name] = 'groups'
        return [produced]
    ledger.elements.union(grid, grid[:1])
    ledger.trace.grouped[name] = 'width'
    if transposed:
        ledger.consume(w, ledger.along(w, 0))
        return [np.tile(ids, groups) for ids in ledger.along(w, 1)]
    if ledger.along(w, 1):
        ledger.elements.union(ledger.along(w, 1)[0], grid[0])
        ledger.consume(w, ledger.along(w, 1))
    ledger.produce(w, ledger.along(w, 0))
    for ids in ledger.along(w, 0):
        rows = ids.reshape(groups, out_width)
        ledger.elements.union(rows, rows[:1])
    return ledger.along(w, 0)


@rule(
    *(
        'max_pool2d_with_indices max_pool3d_with_indices max_pool2d avg_pool1d avg_pool2d avg_pool3d '
        '_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d '
        'adaptive_max_pool2d mkldnn_max_pool2d upsample_nearest1d upsample_nearest2d _upsample_nearest_exact2d '
        'upsample_bilinear2d upsample_bicubic2d upsample_linear1d _upsample_bilinear2d_aa _upsample_bicubic2d_aa '
        'grid_sampler_2d'
    ).split()
)
def spatial(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    """Pooling and resampling: leading dimensions pass, resized ones can't carry elements."""
    first = tensors_of(out)[0]
    moved = [a for a in ledger.axes(x) if first.ndim != x.ndim or a[0] >= 2]
    ledger.freeze(moved, 'pooling or resampling along pruned positions')
    for result in tensors_of(out):
        ledger.put(
            result, [a for a in ledger.axes(x) if a[0] < 2] if first.ndim == x.ndim else [], None, ledger.makers(x)
        )
