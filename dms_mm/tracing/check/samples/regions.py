"""Operators of torchvision and mmcv, where these are."""

from __future__ import annotations

import importlib
import importlib.util

import torch
from torch import Tensor

from .making import own

if importlib.util.find_spec('torchvision') is not None:
    import torchvision  # noqa: F401 -- registers them
MMCV = importlib.util.find_spec('mmcv') is not None and importlib.util.find_spec('mmcv._ext') is not None
if MMCV:
    importlib.import_module('mmcv.ops')  # whose functions its operators run

_ops, _mm = torch.ops.torchvision, torch.ops.mmcv


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
        for _pool, _more in ((_ops.ps_roi_align, (2,)), (_ops.ps_roi_pool, ())):
            _name = _pool.default._schema.name
            own(_name, lambda x, r, f=_pool, m=_more: f(x, r, 1.0, 2, 2, *m)[0], (2, 4 * _c, 5, 6), boxes)
            own(_name, lambda x, r, f=_pool, m=_more: f(x, r, 0.5, 1, 3, *m)[0], (2, 3 * _c, 5, 6), boxes)
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

if MMCV:
    for _c, _mode in ((3, 'avg'), (4, 'max')):
        own(
            'mmcv::roi_align',
            lambda x, r, m=_mode: _mm.roi_align(x, r, [2, 3], 1.0, 2, m, True),
            (2, _c, 5, 6),
            boxes,
        )
        own('mmcv::roi_align', lambda x, r, m=_mode: _mm.roi_align(x, r, 2, 0.5, 0, m, False), (2, _c, 5, 6), boxes)
    for _groups, _places in ((1, 1), (1, 2), (2, 1), (2, 2)):
        _shapes = (2, 8, 4, 5), (2, 18 * _places, 4, 5), (2, 9 * _places, 4, 5), (6, 8 // _groups, 3, 3), (6,)
        own(
            'mmcv::deform_conv',
            lambda x, o, w, g=_groups, p=_places: _mm.deform_conv(x, o, w, 1, 1, 1, g, p),
            *(_shapes[k] for k in (0, 1, 3)),
        )
        own(
            'mmcv::modulated_deform_conv',
            lambda x, o, m, w, b, g=_groups, p=_places: _mm.modulated_deform_conv(x, o, m, w, b, 1, 1, 1, g, p),
            *_shapes,
        )
