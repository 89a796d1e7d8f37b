"""Layers that tie channels in many ways, for random networks."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Norm2d(nn.LayerNorm):
    """Channels-first LayerNorm."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, 3, 1), nn.Conv2d(3, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()


class Attention(nn.Module):
    """Over the positions of a map: fused or separate projections, explicit or fused kernel, grouped queries."""

    def __init__(self, channels: int, rng: random.Random) -> None:
        super().__init__()
        self.heads, self.head_dim = rng.choice([(2, 3), (4, 2), (1, 5), (3, 4)])
        self.groups = rng.choice([1, 2]) if self.heads % 2 == 0 else 1
        self.kv_heads = self.heads // self.groups
        self.fused = self.groups == 1 and rng.random() < 0.5
        self.kernel = rng.random() < 0.5
        inner, small = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if self.fused:
            self.qkv = nn.Linear(channels, 3 * inner, bias=rng.random() < 0.5)
        else:
            self.q, self.k, self.v = (nn.Linear(channels, n) for n in (inner, small, small))
        self.norm = nn.LayerNorm(self.head_dim) if rng.random() < 0.3 else nn.Identity()
        self.scale = self.head_dim**-0.5
        self.proj = nn.Linear(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        t = x.flatten(2).transpose(1, 2)
        if self.fused:
            q, k, v = self.qkv(t).reshape(b, h * w, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        else:
            q = self.q(t).view(b, h * w, -1, self.head_dim).transpose(1, 2)
            k = self.k(t).view(b, h * w, -1, self.head_dim).transpose(1, 2)
            v = self.v(t).view(b, h * w, -1, self.head_dim).transpose(1, 2)
            if self.groups > 1:
                k, v = (
                    y[:, :, None]
                    .expand(b, y.shape[1], self.groups, h * w, y.shape[3])
                    .reshape(b, -1, h * w, y.shape[3])
                    for y in (k, v)
                )
        q = self.norm(q)
        if self.kernel:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            out = ((q @ k.transpose(-2, -1)) * self.scale).softmax(-1) @ v
        return self.proj(out.transpose(1, 2).flatten(2)).transpose(1, 2).reshape(b, c, h, w)


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class Glu(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(channels, 2 * hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.wide(x).chunk(2, 1)
        return self.narrow(F.silu(a) * b)


class Concatenated(nn.Module):
    """A C2f layer: what each block gives is concatenated, and an activation or a norm may come before it is read."""

    def __init__(self, channels: int, out: int, rng: random.Random) -> None:
        super().__init__()
        width, blocks = rng.choice([3, 4]), rng.choice([1, 2, 3])
        self.main = nn.Conv2d(channels, 2 * width, 1)
        self.blocks = nn.ModuleList(Scaled(width, rng.choice([2, 4])) for _ in range(blocks))
        between = [nn.Identity(), nn.ReLU(), nn.BatchNorm2d((2 + blocks) * width), Gate((2 + blocks) * width)]
        self.between = rng.choice(between)
        self.final = nn.Conv2d((2 + blocks) * width, out, rng.choice([1, 3]), padding='same')
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.uniform_(norm.bias, 0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.main(x).chunk(2, 1))
        parts.extend(block(parts[-1]) for block in self.blocks)
        return self.final(self.between(torch.cat(parts, 1)))


class Scaled(nn.Module):
    """A residual block without a module at the end of its branch."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 3, padding=1)
        self.gain = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.narrow(self.wide(x).relu())) * 0.7 * self.gain


class Last(nn.Module):
    """A module for channels-last maps between channels-first ones."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
