"""torchvision's operators, where it is."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from .making import own

if importlib.util.find_spec('torchvision') is not None:
    import torchvision  # noqa: F401 -- registers them

_ops = torch.ops.torchvision


def boxes(generator: torch.Generator) -> Tensor:
    """(3, 5): an image, and two corners."""
    corners = torch.rand(3, 2, generator=generator, dtype=torch.float64)
    sizes = 1 + 3 * torch.rand(3, 2, generator=generator, dtype=torch.float64)
    return torch.cat([torch.tensor([[0.0], [1], [1]], dtype=torch.float64), corners, corners + sizes], 1)


if hasattr(_ops, 'roi_align'):
    for _c in (3, 4):
        own('torchvision::roi_align', lambda x, r: _ops.roi_align(x, r, 1.0, 2, 3, 2, True), (2, _c, 5, 6), boxes)
        own('torchvision::roi_align', lambda x, r: _ops.roi_align(x, r, 0.5, 2, 2, -1, False), (2, _c, 5, 6), boxes)
        own('torchvision::roi_pool', lambda x, r: _ops.roi_pool(x, r, 1.0, 2, 3), (2, _c, 5, 6), boxes)
        own('torchvision::roi_pool', lambda x, r: _ops.roi_pool(x, r, 0.5, 3, 2), (2, _c, 5, 6), boxes)
    for _groups, _places, _masked in ((1, 1, False), (1, 1, True), (1, 2, True), (2, 1, False), (2, 2, True)):
        own(
            'torchvision::deform_conv2d',
            lambda x, w, o, m, b, g=_groups, p=_places, k=_masked: _ops.deform_conv2d(
                x, w, o, m, b, 1, 1, 1, 1, 1, 1, g, p, k
            ),
            (2, 8, 4, 5),
            (6, 8 // _groups, 3, 3),
            (2, 18 * _places, 4, 5),
            (2, 9 * _places, 4, 5),
            (6,),
        )
