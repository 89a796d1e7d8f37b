"""Convolutions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ..elements import IntArray
from ..findings import NO_CHANNELS
from ..ledger import Ledger
from .layout import align, note_bias, touching
from .products import contract, zero_where
from .table import rule


@rule('convolution')
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
    space = set(range(2, x.ndim))
    ledger.mix(touching(ledger, x, space), 'a convolution along pruned positions')
    for _, ids in touching(ledger, w, space):
        ledger.elements.freeze(ids, NO_CHANNELS + 'the kernel of a convolution')
    in_dim, out_dim = (0, 1) if transposed else (1, 0)
    if groups == 1:
        contract(ledger, x, 1, w, in_dim, 'a convolution')
        produced = ledger.along(w, out_dim)
    else:
        produced = grouped_rows(ledger, out, x, w, transposed, groups)
    if isinstance(bias, torch.Tensor) and bias.shape[0] > 1:
        entries = ledger.along(bias, 0)
        note_bias(ledger, produced, bias)
        if entries or produced:
            produced = align(ledger, [produced, entries], 'a bias that does not fit its weight')
    batch = ledger.along(x, 0)
    makers = zero_where(ledger, [(x, batch), (w, produced)], bias)
    ledger.put(out, [*((0, ids) for ids in batch), *((1, ids) for ids in produced)], None, makers)
    places = math.prod((x if transposed else out).shape[2:]) * math.prod(w.shape[2:])
    ledger.cost(places if batch else places * x.shape[0], [*([(x, 0)] if batch else []), (w, 0), (w, 1)])


def grouped_rows(ledger: Ledger, out: Any, x: Any, w: Any, transposed: bool, groups: int) -> list[IntArray]:
    width, out_width = x.shape[1] // groups, out.shape[1] // groups
    xs = ledger.along(x, 1)
    ws = touching(ledger, w, {0, 1})
    name = ledger.source(w)
    if not xs or name is None:
        ledger.freeze([*(((1,), ids) for ids in xs), *ws], 'a grouped convolution of an input that nothing prunes')
        return [] if transposed else ledger.along(w, 0)
    line = ledger.elements.fuse(xs)
    grid = line.reshape(groups, width)
    rows, columns = ledger.along(w, 0), ledger.along(w, 1)
    if transposed and rows:
        align(ledger, [rows, [line]], 'a grouped convolution')
    if width < groups:
        # Whole groups go: depthwise, and cardinality as in ResNeXt.
        ledger.elements.union(grid, grid[:, :1])
        ledger.freeze(touching(ledger, w, {1}), 'the width inside each group of a grouped convolution')
        ledger.trace.grouped[name] = 'groups'
        produced = [np.repeat(grid[:, 0], out_width)]
        return produced if transposed or not rows else align(ledger, [rows, produced], 'a grouped convolution')
    ledger.elements.union(grid, grid[:1])
    ledger.trace.grouped[name] = 'width'
    if transposed:
        ledger.consume(w, rows)
        ledger.produce(w, columns)
        return [np.tile(ids, groups) for ids in columns]
    if columns:
        align(ledger, [columns, [grid[0]]], 'a grouped convolution')
        ledger.consume(w, columns)
    ledger.produce(w, rows)
    for ids in rows:
        same = ids.reshape(groups, out_width)
        ledger.elements.union(same, same[:1])
    return rows
