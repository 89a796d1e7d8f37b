"""Operators of torchvision and mmcv on regions of maps, and deformable convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..elements import IntArray
from ..findings import NO_CHANNELS
from ..ledger import Ledger
from .convolution import grouped_rows
from .indexing import picked
from .layout import align, note_bias, touching
from .products import contract, zero_where
from .spatial import grouped
from .table import rule

REGIONS = 'regions of pruned positions'


@rule('torchvision::roi_align', 'mmcv::roi_align')
def roi_align(ledger: Ledger, out: Any, x: Any, boxes: Any, *args: Any) -> None:
    """One map of all channels for each box."""
    picked(ledger, out, [(x, [None, 1, None, None]), (boxes, [0, None])], REGIONS)


@rule('torchvision::roi_pool')
def roi_pool(ledger: Ledger, out: Any, x: Any, boxes: Any, *args: Any) -> None:
    """With the places of maxima."""
    roi_align(ledger, out[0], x, boxes)
    ledger.put(out[1], ledger.entries(out[0]))


@rule('torchvision::ps_roi_align', 'torchvision::ps_roi_pool')
def ps_roi_align(ledger: Ledger, out: Any, x: Any, boxes: Any, *args: Any) -> None:
    """Each place of the result sees channels of its own, which go together; with the numbers of these."""
    lines = grouped(ledger, x, 1, out[0].shape[2] * out[0].shape[3])
    ledger.freeze([*touching(ledger, x, {0, 2, 3}), *touching(ledger, boxes, {1})], REGIONS)
    boxed = ledger.along(boxes, 0)
    for result, makers in zip(out, (None if boxed else ledger.makers(x), None)):
        ledger.put(result, [*((0, ids) for ids in boxed), *((1, ids) for ids in lines)], None, makers)


@rule('torchvision::deform_conv2d')
def deform_conv2d(ledger: Ledger, out: Any, x: Any, w: Any, offset: Any, mask: Any, bias: Any, *args: Any) -> None:
    """A convolution at places that ``offset`` says, of which every group of input channels has its own."""
    *_, groups, offset_groups, _ = args
    _deformed(ledger, out, x, w, [offset, mask], bias, groups, offset_groups)


@rule('mmcv::deform_conv')
def deform_conv(ledger: Ledger, out: Any, x: Any, offset: Any, w: Any, *args: Any) -> None:
    _deformed(ledger, out, x, w, [offset], None, *args[3:5])


@rule('mmcv::modulated_deform_conv')
def modulated_deform_conv(
    ledger: Ledger, out: Any, x: Any, offset: Any, mask: Any, w: Any, bias: Any = None, *args: Any
) -> None:
    _deformed(ledger, out, x, w, [offset, mask], bias, *args[3:5])


def _deformed(
    ledger: Ledger,
    out: Any,
    x: Any,
    w: Any,
    places: Sequence[Any],
    bias: Any,
    groups: int = 1,
    offset_groups: int = 1,
) -> None:
    for y in places:
        ledger.freeze(ledger.entries(y), 'the places of a deformable convolution')
    ledger.freeze(touching(ledger, x, {0, 2, 3}), 'a deformable convolution along pruned positions')
    for _, ids in touching(ledger, w, {2, 3}):
        ledger.elements.freeze(ids, NO_CHANNELS + 'the kernel of a convolution')
    if offset_groups > 1:
        for ids in ledger.along(x, 1):
            grid = ids.reshape(offset_groups, -1)
            ledger.elements.union(grid, grid[:1])
    if groups == 1:
        contract(ledger, x, 1, w, 1, 'a deformable convolution')
        produced: list[IntArray] = ledger.along(w, 0)
    else:
        produced = grouped_rows(ledger, out, x, w, False, groups)
    if isinstance(bias, torch.Tensor):
        note_bias(ledger, produced, bias)
        produced = align(ledger, [produced, ledger.along(bias, 0)], 'a bias that does not fit its weight')
    ledger.put(out, [(1, ids) for ids in produced], None, zero_where(ledger, [(x, []), (w, produced)], bias))
