"""Several operators as models put them together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .making import program


def heads(x: Tensor, count: int) -> Tensor:
    """(B, N, C) -> (B, count, N, C / count)."""
    return x.view(*x.shape[:2], count, -1).transpose(1, 2)


def attention(x: Tensor, qkv: Tensor, out: Tensor) -> Tensor:
    """Two heads; queries, keys and values by one weight."""
    q, k, v = F.linear(x, qkv).view(*x.shape[:2], 3, 2, -1).permute(2, 0, 3, 1, 4)
    y = torch.softmax(q @ k.transpose(-1, -2) * 0.5, -1) @ v
    return F.linear(y.transpose(1, 2).reshape(*x.shape[:2], -1), out)


def given_heads(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Two heads, without a layer around them."""
    return torch.softmax(heads(q, 2) @ heads(k, 2).mT, -1) @ heads(v, 2)


def gated(x: Tensor, up: Tensor, gate: Tensor, down: Tensor) -> Tensor:
    """A feed-forward layer with a gate."""
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


def squeeze_excite(x: Tensor, reduce: Tensor, expand: Tensor) -> Tensor:
    """Channels scaled by what their means say."""
    scale = F.conv2d(F.relu(F.conv2d(x.mean((2, 3), keepdim=True), reduce)), expand)
    return x * torch.sigmoid(scale)


_shape: tuple[int, ...]
for _shape in ((2, 3, 4), (1, 5, 4), (3, 2, 4)):
    program('attention', attention, _shape, (24, 4), (4, 8))
    program('attention of given queries', given_heads, *[_shape] * 3)
    program('gated feed-forward', gated, _shape, (6, 4), (6, 4), (4, 6))
    program('residual feed-forward', lambda x, w: x + F.linear(F.gelu(F.linear(x, w)), w.T), _shape, (6, 4))
for _size in (3, 2, 5):
    program('squeeze and excitation', squeeze_excite, (2, 4, _size, 3), (3, 4, 1, 1), (4, 3, 1, 1))
for _shape in ((3, 4), (2, 6), (5, 4)):
    program('a sum behind an activation', lambda x: F.silu(x).sum(1), _shape)
    program('a sum behind an activation', lambda x, y: torch.where(x > 0, x, y).sum(-1), _shape, _shape)
    program('a sum behind an activation', lambda x, y, w: torch.lerp(x, y, w).sum(0), _shape, _shape, _shape[1:])
    program('a sum behind padding', lambda x: F.pad(x, (0, 0, 2, 0), value=1.5).sum(1), _shape)
    program('a sum behind a product', lambda x, w: (x @ w).sum(1), _shape, (_shape[1], 3))
    program('a sum behind a product', lambda x, w: (x @ w).sum(0), _shape, (_shape[1], 3))
    program('a sum behind a concatenation', lambda x: torch.cat([x, torch.zeros_like(x)], 1).sum(1), _shape)
    program('a sum behind a stack', lambda x, y: torch.stack([x, y.expand_as(x)]).sum((0, 2)), _shape, (1, _shape[1]))
    program('writing into a view', lambda x: x[:, :2].add_(1).sum(1) + x.sum(1), _shape)
    program('writing into a view', lambda x: x[:, :2].mul_(2).sum(1) + x.sum(1), _shape)
    program('writing into a view', lambda x: torch.relu_(x[:, 1:3]).sum(0) + x.sum(0)[1:3], _shape)
    program('writing into a view', lambda x, y: x[:, 1:3].copy_(y).sum(1) + x.sum(1), _shape, (_shape[0], 2))
    program('writing into a view', lambda x: x[:, 1:3].zero_().sum(1) + x.sum(1), _shape)
program('writing into a view', lambda x: x.view(-1, 2).fill_(1).sum() + x.sum(1), (3, 4))
program('rotary positions', lambda x, c: torch.cat([-x[..., 1::2], x[..., ::2]], -1) * c, (2, 3, 8), (3, 8))
program(
    'rotary positions', lambda x, c: torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2) * c, (2, 3, 8), (3, 8)
)
program('rotary positions', lambda x, c: x * c + torch.cat([-x[..., 4:], x[..., :4]], -1), (2, 3, 8), (3, 8))
