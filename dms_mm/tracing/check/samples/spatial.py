"""Convolutions, pooling, resampling, windows, padding, shuffles."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .making import own, single

aten = torch.ops.aten
_shape: tuple[int, ...]
_shapes: list[tuple[int, ...]]

for _n, _space in ((1, (9,)), (2, (6, 5)), (3, (5, 4, 6))):
    for _lead in ((2, 3), (3,)):
        _shape = (*_lead, *_space)
        _pools = [(f'avg_pool{_n}d', getattr(F, f'avg_pool{_n}d'))]
        _pools += [(f'adaptive_avg_pool{_n}d', getattr(F, f'adaptive_avg_pool{_n}d'))]
        _pools += [(f'adaptive_max_pool{_n}d', getattr(F, f'adaptive_max_pool{_n}d'))]
        for _name, _f in _pools:
            own(_name, lambda x, f=_f: f(x, 2), _shape)
            own(_name, lambda x, f=_f: f(x, 3), _shape)
        _name = f'max_pool{_n}d_with_indices'
        if _n > 1:
            _f = getattr(F, f'max_pool{_n}d')
            own(_name, lambda x, f=_f: f(x, 2, return_indices=True), _shape)
            _f = getattr(F, f'max_pool{_n}d'), getattr(F, f'max_unpool{_n}d')
            own(
                f'max_unpool{_n}d',
                lambda x, f=_f, n=_n: f[1](*f[0](x, 2, return_indices=True), 2, output_size=x.shape[-n:]),
                _shape,
            )
        for _kind in ('reflection', 'replication'):
            _f = getattr(aten, f'{_kind}_pad{_n}d')
            own(f'{_kind}_pad{_n}d', lambda x, f=_f, n=_n: f(x, [1, 2] * n), _shape)
    _shape = (2, 3, *_space)
    for _mode, _rank in (
        *((m, _n) for m in ('nearest', 'nearest-exact')),
        *((m, r) for m, r in (('linear', 1), ('bilinear', 2), ('bicubic', 2), ('trilinear', 3)) if r == _n),
    ):
        _name = {'nearest-exact': f'_upsample_nearest_exact{_n}d', 'nearest': f'upsample_nearest{_n}d'}.get(
            _mode, f'upsample_{_mode}{_n}d'
        )
        for _factor in (2, 0.5, 1.5):
            own(_name, lambda x, m=_mode, s=_factor: F.interpolate(x, scale_factor=s, mode=m), _shape)
    for _circular in range(3):
        own('pad_circular', lambda x, n=_n: F.pad(x, [1, 1] * n, mode='circular'), _shape)
for _size in ((3, 3), (8, 4), (6, 5)):
    for _mode in ('bilinear', 'bicubic'):
        own(
            f'_upsample_{_mode}2d_aa',
            lambda x, s=_size, m=_mode: F.interpolate(x, size=s, mode=m, antialias=True),
            (2, 3, 6, 5),
        )
for _shape in ((2, 8, 3, 2), (8, 3, 4), (2, 12, 4, 2)):
    own('pixel_shuffle', lambda x: F.pixel_shuffle(x, 2), _shape)
    own('im2col', lambda x: F.unfold(x, 2), _shape)
    own('im2col', lambda x: F.unfold(x, (2, 1), padding=1, stride=(1, 2)), _shape)
    own('col2im', lambda x: F.fold(F.unfold(x, 2), x.shape[-2:], 2), _shape)
for _shape in ((2, 8, 12), (8, 12), (2, 16, 12)):
    own('col2im', lambda x: F.fold(x, (4, 5), 2), _shape)
for _shape in ((2, 3, 4, 6), (3, 2, 4), (1, 2, 4, 4)):
    own('pixel_unshuffle', lambda x: F.pixel_unshuffle(x, 2), _shape)
for _shape in ((2, 6, 3), (2, 8, 3, 2), (1, 4, 2, 3)):
    own('channel_shuffle', lambda x: F.channel_shuffle(x, 2), _shape)
    own('channel_shuffle', lambda x: aten.channel_shuffle(x, x.shape[1] // 2), _shape)
    own('unfold', lambda x: x.unfold(-1, 2, 1), _shape)
    own('unfold', lambda x: x.unfold(1, 3, 2), _shape)
for _mode in ('bilinear', 'nearest', 'bicubic'):
    _shapes = [(2, 3, 4, 5), (2, 3, 2, 2)]
    own('grid_sampler_2d', lambda x, g, m=_mode: F.grid_sample(x, g, m, align_corners=False), *_shapes)
for _mode in ('bilinear', 'nearest'):
    _shapes = [(2, 3, 4, 5, 3), (2, 3, 2, 4, 3)]
    own('grid_sampler_3d', lambda x, g, m=_mode: F.grid_sample(x, g, m, align_corners=False), *_shapes)
own('grid_sampler_3d', lambda x, g: F.grid_sample(x, g, align_corners=True), (1, 3, 2, 5, 3), (1, 3, 2, 1, 3))

for _groups, _width in ((1, 3), (2, 4), (6, 1), (3, 2)):
    _c = _groups * _width
    for _b in ((), ((2 * _c,),)):
        own(
            'convolution',
            lambda x, w, b=None, g=_groups: F.conv2d(x, w, b, stride=2, padding=1, groups=g),
            (2, _c, 5, 4),
            (2 * _c, _width, 3, 2),
            *_b,
        )
        own(
            'convolution',
            lambda x, w, b=None, g=_groups: F.conv_transpose2d(x, w, b, stride=2, groups=g),
            (2, _c, 3, 4),
            (_c, 2 * _width, 2, 2),
            *_b,
        )
        _shapes = [(2, _c, 4), (2 * _c, _width, 1), *_b]
        own('convolution', lambda x, w, b=None, g=_groups: F.conv1d(x, w, b, groups=g), *_shapes)
own('convolution', lambda x, w: F.conv2d(x, w), single(2, 3, 5, 4), single(4, 3, 3, 2))
own('convolution', lambda x, w, v: F.conv2d(F.conv2d(x, w), v), (2, 3, 4, 4), (4, 3, 2, 2), (2, 4, 1, 1))
own('convolution', lambda x, w: F.conv2d(x, w.view(4, 3, 1, 1)), (2, 3, 4, 4), (4, 3))
own('convolution', lambda x, w: F.conv3d(x, w), (3, 4, 3, 3), (2, 3, 2, 2, 1))
