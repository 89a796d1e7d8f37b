"""Views, cuts, joins, and tensors of given lengths."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .making import complex_numbers, flags, own, shares, single, whole

aten = torch.ops.aten

for _name in ('_reshape_alias', 'as_strided', 'as_strided_'):
    _f = getattr(aten, _name)
    own(_name, lambda x, f=_f: f(x, (4, 6), (6, 1)), (4, 6))
    own(_name, lambda x, f=_f: f(x, (2, 3, 4), (12, 4, 1)), (2, 3, 4))
    own(_name, lambda x, f=_f: f(x, (4, 1, 6), (6, 6, 1)), (4, 6))
own('as_strided', lambda x: torch.as_strided(x, (4, 4), (1, 4)), (4, 4))
own('as_strided', lambda x: torch.as_strided(x, (3, 2, 4), (4, 12, 1)), (2, 3, 4))
own('as_strided', lambda x: torch.as_strided(x, (3, 3), (2, 1)), (8,))
_shape: tuple[int, ...]
for _shape in ((4, 6), (2, 4, 6), (6,)):
    own('alias', aten.alias, _shape)
    own('lift', aten.lift, _shape)
    own('_conj', torch.conj, complex_numbers(*_shape))
    own('conj', torch.conj, complex_numbers(*_shape))
    own('resolve_conj', lambda x: x.conj().resolve_conj(), complex_numbers(*_shape))
    own('_neg_view', aten._neg_view, _shape)
    own('resolve_neg', lambda x: aten._neg_view(x).resolve_neg(), _shape)
    own('broadcast_to', lambda x: torch.broadcast_to(x, (3, *x.shape)), _shape)
for _shape in ((4, 6), (2, 4, 6), (2, 3, 4, 2)):
    own('contiguous', lambda x: x.transpose(-1, -2).contiguous(), _shape)
    own('reshape', lambda x: x.transpose(-1, -2).reshape(x.shape[0], -1), _shape)
    own('_unsafe_view', lambda x: aten._unsafe_view(x, (x.shape[0], -1)), _shape)
    own('unflatten', lambda x: x.unflatten(-1, (2, x.shape[-1] // 2)), _shape)
    own('view', lambda x: x.view(torch.complex128), _shape)
    own('squeeze', lambda x: x.unsqueeze(-1).squeeze(), _shape)
    own('squeeze', lambda x: x.unsqueeze(1).squeeze(1), _shape)
    own('squeeze_', lambda x: x.clone().unsqueeze_(-1).squeeze_(), _shape)
    own('repeat', lambda x: x.repeat(2, *[1] * (x.ndim - 1)), _shape)
own('view', lambda x: x.view(torch.int32), (3, 4))
own('view', lambda x: x.view(2, 3, 2, 3).transpose(1, 2).reshape(4, 9), (6, 6))
own('expand', lambda x, y: x.expand(-1, y.shape[1]) + y, (4, 1), (4, 5))
own('expand', lambda x, y: x.expand(*y.shape) * y, (4, 1), (3, 4, 5))
own('repeat', lambda x, y: x.repeat(1, y.shape[1]) + y, (4, 1), (4, 5))
own('repeat', lambda x, y: x.unsqueeze(-1).repeat(1, 1, y.shape[1]).permute(0, 2, 1) * y, (2, 4), (2, 3, 4))
own('repeat_interleave', lambda x: x.repeat_interleave(2, 1), (2, 4, 3))
own('repeat_interleave', lambda x: x.repeat_interleave(3, -1), (2, 4))
own('repeat_interleave', lambda x: x.repeat_interleave(2, 0), (3, 2, 4))
own('repeat_interleave', lambda x: torch.repeat_interleave(x, torch.tensor([1, 2, 0]), 0, output_size=3), (3, 4))
own('unbind', lambda x: [y * 2 for y in x.unbind(1)], (2, 3, 4))
own('rot90', lambda x: torch.rot90(x, 1, (1, 2)), (2, 3, 4))
own('rot90', lambda x: torch.rot90(x, 2, (0, 2)), (2, 3, 4))
own('rot90', lambda x: torch.rot90(x, -1, (0, 1)), (4, 3, 2))

own('slice', lambda x: x[:, 1:4], (3, 6))
own('slice', lambda x: x[..., ::2], (3, 8))
own('slice', lambda x: torch.cat([-x[..., 1::2], x[..., ::2]], -1), (3, 8))
own('slice', lambda x: x[:, 1:7:3], (3, 8))
own('slice', lambda x: torch.cat([x[:, k::3] for k in (2, 0, 1)], 1), (3, 9))
own('slice', lambda x: x[:, 5::2], (3, 9))
own('slice', lambda x: x[:, -3:], (3, 6))
own('slice', lambda x: x[:, :0], (3, 6))
own('slice', lambda x: x[:, 2:3] + x, (3, 6))
for _name, _f in (('split', torch.split), ('unsafe_split', torch.unsafe_split)):
    own(_name, lambda x, f=_f: f(x, 3, 1), (2, 6))
    own(_name, lambda x, f=_f: f(x, 2, -1), (2, 3, 8))
    own(_name, lambda x, f=_f: f(x, 4, 0), (10, 3))
    own(_name, lambda x, f=_f: f(x, 5, 1), (3, 9))
    own(_name, lambda x, f=_f: f(x, 9, 0), (4, 3))
for _name, _f in (
    ('split_with_sizes', torch.split_with_sizes),
    ('unsafe_split_with_sizes', torch.unsafe_split_with_sizes),
):
    own(_name, lambda x, f=_f: f(x, (2, 4, 3), 1), (2, 9))
    own(_name, lambda x, f=_f: f(x, (3, 3), -1), (2, 3, 6))
    own(_name, lambda x, f=_f: f(x, (1, 3), 0), (4, 3))
own('split', lambda x: torch.cat(x.chunk(3, 1)[::-1], 1), (2, 9))

for _shapes in (((2, 3, 4), (2, 5, 4)), ((2, 3, 4), (2, 3, 4)), ((2, 1, 4), (2, 3, 4))):
    own('cat', lambda x, y: torch.cat([x, y], 1), *_shapes)
own('cat', lambda x: torch.cat([x, x.flip(0)], 0), (4, 3))
own('cat', lambda x, y: torch.cat([x, x * 2, y], -1), (3, 4), (3, 2))
own('stack', lambda x, y: torch.stack([x, y.expand_as(x)], 1), (3, 4), (1, 4))
own('constant_pad_nd', lambda x: F.pad(x, (1, 2)), (3, 4))
own('constant_pad_nd', lambda x: F.pad(x, (0, 1, 2, 0), value=1.5), (3, 4))
own('constant_pad_nd', lambda x: F.pad(x, (-1, 0, 0, 2)), (3, 4))
own('constant_pad_nd', lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)), (3, 4, 2))

for _name in ('zeros', 'ones', 'empty', 'rand', 'randn'):
    _f = getattr(torch, _name)
    own(_name, lambda x, f=_f: f(3, 4, dtype=torch.float64) * x, (3, 4))
    own(_name, lambda x, f=_f: f(4, dtype=torch.float64) + x, (2, 3, 4))
    own(_name, lambda x, f=_f: f(3, 1, 4, dtype=torch.float64) + x, (3, 2, 4))
own('full', lambda x: torch.full((3, 4), 2.0, dtype=torch.float64) * x, (3, 4))
own('randint', lambda x: torch.randint(5, (3, 4)) + x, (3, 4))
own('eye', lambda x: torch.eye(4, dtype=torch.float64) * x, (4, 4))
own('eye', lambda x: torch.eye(4, dtype=torch.float64) + x, (2, 4, 4))
own('eye', lambda x: torch.eye(3, 4, dtype=torch.float64) + x, (3, 4))
for _name in ('new_zeros', 'new_ones', 'new_empty', 'new_full'):
    own(_name, lambda x, n=_name: getattr(x, n)((3, 4), *([2.0] if n == 'new_full' else [])) + x, (3, 4))
for _name in ('zeros_like', 'ones_like', 'empty_like', 'rand_like', 'randn_like'):
    _f = getattr(torch, _name)
    for _shape in ((3, 4), (2, 3, 4)):
        own(_name, lambda x, f=_f: f(x) + x, _shape)
own('full_like', lambda x: torch.full_like(x, 2.0) + x, (3, 4))
own('randint_like', lambda x: torch.randint_like(x, 3) + x, (3, 4))
own('zeros_like', lambda x: torch.cat([x, torch.zeros_like(x)], 1), (3, 4))
own('scalar_tensor', lambda x: x * torch.scalar_tensor(2.0), (3, 4))
own('native_dropout', lambda x: torch.native_dropout(x, 0.5, True), (3, 4))
own('native_dropout', lambda x: torch.native_dropout(x, 0.5, False), (2, 3, 4))
own('native_dropout', lambda x: torch.native_dropout(x, 0.0, True)[0], (2, 3, 4))
own('where', lambda c, x, y: torch.where(c, x, y), flags(3, 4), (3, 4), (3, 4))
own('masked_fill', lambda x, m: x.masked_fill(m, 0.0), (3, 4), flags(3, 4))
own('masked_fill', lambda x, m: x.masked_fill(m, float('-inf')), (2, 3, 4), flags(3, 4))
own('lerp', lambda x, y, w: torch.lerp(x, y, w), (3, 4), (3, 4), shares(4))
own('addcmul', lambda x, y, z: torch.addcmul(x, y, z), (3, 4), (3, 4), (4,))
own('addcdiv', lambda x, y, z: torch.addcdiv(x, y, z), (3, 4), (3, 4), (4,))
own('mul', lambda x, y: x * y, (3, 1), (4,))
own('_to_copy', lambda x: x.to(torch.float64), single(3, 4))
own('clamp', lambda x: x.clamp(0.5, 2), (3, 4))
own('clamp', lambda x: x.clamp(-1, 2), (3, 4))
own('complex', lambda x, y: torch.complex(x, y).abs(), (3, 4), (3, 4))
own('bitwise_and', lambda x, y: x & y, whole(8, 3, 4), whole(8, 4))
for _shape in ((3, 4), (2, 3, 4), (2, 4, 1, 3)):
    own('glu', lambda x: F.glu(torch.cat([x, x], -1), -1), _shape)
    own('_prelu_kernel', F.prelu, _shape, shares(_shape[1]))
for _shape in ((3, 2), (2, 4, 2), (3, 4, 5, 2)):
    own('view_as_complex', torch.view_as_complex, _shape)
