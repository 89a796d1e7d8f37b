"""torchvision's operators on regions of maps, and deformable convolutions."""

from __future__ import annotations

from typing import Any

from ..elements import IntArray
from ..findings import NO_CHANNELS
from ..ledger import Ledger
from .convolution import grouped_rows
from .indexing import picked
from .layout import align, note_bias, touching
from .products import contract, zero_where
from .table import rule

REGIONS = 'regions of pruned positions'


@rule('torchvision::roi_align')
def roi_align(ledger: Ledger, out: Any, x: Any, boxes: Any, *args: Any) -> None:
    """One map of all channels for each box."""
    picked(ledger, out, [(x, [None, 1, None, None]), (boxes, [0, None])], REGIONS)


@rule('torchvision::roi_pool')
def roi_pool(ledger: Ledger, out: Any, x: Any, boxes: Any, *args: Any) -> None:
    """With the places of maxima."""
    picked(ledger, out[0], [(x, [None, 1, None, None]), (boxes, [0, None])], REGIONS)
    ledger.put(out[1], ledger.entries(out[0]))


@rule('torchvision::deform_conv2d')
def deform_conv2d(ledger: Ledger, out: Any, x: Any, w: Any, offset: Any, mask: Any, bias: Any, *args: Any) -> None:
    """A convolution at places that ``offset`` says, of which every group of input channels has its own."""
    *_, groups, offset_groups, _ = args
    for y in (offset, mask):
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
    note_bias(ledger, produced, bias)
    produced = align(ledger, [produced, ledger.along(bias, 0)], 'a bias that does not fit its weight')
    ledger.put(out, [(1, ids) for ids in produced], None, zero_where(ledger, [(x, []), (w, produced)], bias))
