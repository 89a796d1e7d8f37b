"""Reductions, choices, running sums, transforms, norms."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .making import own, shares

aten = torch.ops.aten

SHAPES = ((3, 4), (2, 3, 4), (2, 3, 4, 2))
for _name in 'sum mean amax amin var std prod logsumexp nansum count_nonzero any all'.split():
    _f = getattr(torch, _name)
    for _shape in SHAPES:
        own(_name, lambda x, f=_f: f(x, 1), _shape)
    if _name != 'count_nonzero':
        own(_name, lambda x, f=_f: f(x, 0, keepdim=True), (3, 4))
for _name in 'argmax argmin median nanmedian mode sort cumsum cumprod cummax cummin logcumsumexp'.split():
    _f = getattr(torch, _name)
    for _shape in SHAPES:
        own(_name, lambda x, f=_f: f(x, 1), _shape)
for _name in 'sum mean median amax argmax logsumexp'.split():
    _f = getattr(torch, _name)
    own(_name, lambda x, f=_f: f(x, 0) if f is torch.logsumexp else f(x), (3, 4))
for _shape in SHAPES:
    own('topk', lambda x: torch.topk(x, 2, 1), _shape)
    own('kthvalue', lambda x: torch.kthvalue(x, 2, 1), _shape)
    own('max', lambda x: torch.max(x, -1), _shape)
    own('max', lambda x, y: torch.max(x, y), _shape, _shape[1:])
    own('aminmax', lambda x: torch.aminmax(x, dim=1), _shape)
    own('_softmax', lambda x: torch.softmax(x, 1), _shape)
    own('linalg_vector_norm', lambda x: torch.linalg.vector_norm(x, 2, -1), _shape)
    own('linalg_vector_norm', lambda x: torch.linalg.vector_norm(x, float('-inf'), 0, keepdim=True), _shape)
    own('linalg_vector_norm', lambda x: torch.linalg.vector_norm(x, float('inf'), (0, 1)), _shape)
    own('norm', lambda x: aten.norm(x, 2, [1], True), _shape)
    own('renorm', lambda x: torch.renorm(x, 2, 1, 0.5), _shape)
    own('roll', lambda x: torch.roll(x, 1, 1), _shape)
    own('flip', lambda x: torch.flip(x, (0, 1)), _shape)
    own('_fft_r2c', lambda x: torch.fft.rfft(x, dim=1), _shape)
    own('_fft_c2r', lambda x: torch.fft.irfft(torch.complex(x, x), n=5, dim=1), _shape)
    own('_fft_c2c', lambda x: torch.fft.fft(torch.complex(x, x), dim=1), _shape)
    own('diff', lambda x: torch.diff(x, dim=1), _shape)
own('_fft_r2c', lambda x: torch.fft.rfft2(x, dim=(2, 3)), (2, 3, 4, 5))
own('_fft_c2r', lambda x: torch.fft.irfft2(torch.fft.rfft2(x), s=(4, 5)), (2, 3, 4, 5))
own('cumsum', lambda x: torch.cumsum(torch.cumsum(x, 1), 1), (3, 4))

for _shape in ((2, 3, 4), (3, 4), (2, 2, 3, 4)):
    own('native_layer_norm', lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b), _shape, _shape[-1:], _shape[-1:])
    own('rms_norm', lambda x, w: F.rms_norm(x, x.shape[-1:], w), _shape, _shape[-1:])
    own('_fused_rms_norm', lambda x, w: aten._fused_rms_norm(x, x.shape[-1:], w, 1e-6), _shape, _shape[-1:])
for _shape in ((3, 4, 2), (3, 4), (2, 4, 3, 2)):
    _c = _shape[1:2]
    own('native_group_norm', lambda x, w, b: F.group_norm(x, 2, w, b), _shape, _c, _c)
    for _training in (False, True):
        for _name in ('native_batch_norm', '_native_batch_norm_legit', '_native_batch_norm_legit_functional'):
            _f = getattr(aten, _name)
            own(
                _name,
                lambda x, w, b, m, v, f=_f, t=_training: f(x, w, b, m, v, t, 0.1, 1e-5),
                _shape,
                _c,
                _c,
                _c,
                shares(*_c),
            )
    for _name in '_batch_norm_with_update _batch_norm_with_update_functional _batch_norm_no_update'.split():
        _f = getattr(aten, _name)
        own(
            _name,
            lambda x, w, b, m, v, f=_f: f(x, w, b, m, v, 0.1, 1e-5),
            _shape,
            _c,
            _c,
            _c,
            shares(*_c),
        )
    own(
        '_native_batch_norm_legit_no_training',
        lambda x, w, b, m, v: aten._native_batch_norm_legit_no_training(x, w, b, m, v, 0.1, 1e-5),
        _shape,
        _c,
        _c,
        _c,
        shares(*_c),
    )

for _shape in SHAPES:
    for _name in ('mse_loss', 'smooth_l1_loss', 'huber_loss', 'soft_margin_loss'):
        _f = getattr(F, _name)
        own(_name, lambda x, y, f=_f: f(x, y, reduction='none'), _shape, _shape)
        own(_name, lambda x, y, f=_f: f(x, y, reduction='sum'), _shape, _shape)
    _shares = shares(*_shape)
    own('binary_cross_entropy', lambda x, y: F.binary_cross_entropy(x, y, reduction='none'), _shares, _shares)
