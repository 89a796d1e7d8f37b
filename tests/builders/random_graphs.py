"""Random networks of every kind of operator that ties channels: what equivalence must hold over."""

from __future__ import annotations

import random

import torch
from timm.layers import EcaModule, GroupNormAct, LayerNormAct2d, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d
from timm.layers.cbam import SpatialAttn
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

SIDE = 4
STEPS = (
    'conv conv conv depthwise grouped norm norm act add add cat split gate attention attention shuffle glu '
    'shared multiply pixel transposed residual slice linear'
).split()
# Came later: seeds from 500 on use them, too, and those below keep their networks.
# Those from 1000 on may mix channels, too.
MORE = 'concatenated concatenated standardised standardised response activated scaled'.split()


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


class RandomNet(nn.Module):
    """A program of ``length`` random steps over maps of (B, C, 4, 4); the same seed gives the same network."""

    def __init__(self, seed: int, length: int = 9) -> None:
        super().__init__()
        rng = random.Random(seed)
        self.steps = STEPS + (MORE if seed >= 500 else []) + (['mixed'] * 3 if seed >= 1000 else [])
        torch.manual_seed(seed)
        self.layers = nn.ModuleList()
        self.program: list[tuple] = []
        self.shapes: list[int] = []
        self._emit('layer', (), nn.Conv2d(3, rng.choice([4, 6, 8, 12]), 3, padding=1))
        while len(self.program) < length:
            self._grow(rng)
        self.head = nn.Linear(self.shapes[-1], 5)

    def _emit(self, kind: str, inputs: tuple[int, ...], layer: nn.Module | None = None, *rest: int) -> None:
        index = -1
        if layer is not None:
            index = len(self.layers)
            self.layers.append(layer)
        self.program.append((kind, inputs, index, *rest))
        with torch.no_grad():
            self.shapes.append(self._run_all(torch.zeros(2, 3, SIDE, SIDE))[-1].shape[1])

    def _grow(self, rng: random.Random) -> None:
        last = len(self.program) - 1
        c = self.shapes[last]
        other = rng.randrange(len(self.program))
        same = [i for i, n in enumerate(self.shapes) if n == c and i != last]
        out = rng.choice([4, 6, 8, 12])
        divisors = [g for g in (2, 3, 4) if c % g == 0]
        kind = rng.choice(self.steps)
        if kind == 'conv':
            self._emit('layer', (last,), nn.Conv2d(c, out, rng.choice([1, 3]), padding='same'))
        elif kind == 'depthwise':
            self._emit('layer', (last,), nn.Conv2d(c, c, 3, padding=1, groups=c))
        elif kind == 'grouped' and divisors:
            g = rng.choice(divisors)
            self._emit('layer', (last,), nn.Conv2d(c, g * rng.choice([2, 3]), 3, padding=1, groups=g))
        elif kind == 'norm':
            norms = [nn.BatchNorm2d(c), Norm2d(c), nn.GroupNorm(1, c), nn.InstanceNorm2d(c, affine=True)]
            norms += [nn.GroupNorm(g, c) for g in divisors]
            norm = rng.choice(norms)
            for p in norm.parameters():
                nn.init.uniform_(p, 0.5, 1.5)
            self._emit('layer', (last,), norm)
        elif kind == 'act':
            self._emit('layer', (last,), rng.choice([nn.ReLU(), nn.GELU(), nn.Sigmoid(), nn.PReLU(c), nn.Hardswish()]))
        elif kind == 'add' and same:
            self._emit('add', (last, rng.choice(same)))
        elif kind == 'multiply' and same:
            self._emit('multiply', (last, rng.choice(same)))
        elif kind == 'cat':
            self._emit('cat', (last, other))
        elif kind == 'split' and c >= 4:
            first = rng.randrange(1, c - 1)
            # By a share of the width, or a number.
            share = c // first if c % first == 0 and first > 1 else 0
            self._emit('split', (last,), None, first, share)
        elif kind == 'slice' and c % 2 == 0:
            self._emit('halves', (last,))
        elif kind == 'gate':
            self._emit('layer', (last,), Gate(c))
        elif kind == 'attention':
            self._emit('residual' if rng.random() < 0.5 else 'layer', (last,), Attention(c, rng))
        elif kind == 'shuffle' and divisors:
            self._emit('layer', (last,), Shuffle(rng.choice(divisors)))
        elif kind == 'glu':
            self._emit('residual', (last,), Glu(c, out))
        elif kind == 'shared' and same:
            conv = nn.Conv2d(c, c, 1)
            self._emit('twice', (last, rng.choice(same)), conv)
        elif kind == 'pixel' and c % 4 == 0:
            self._emit('pixel', (last,), nn.Conv2d(c // 4, out, 2, stride=2))
        elif kind == 'transposed':
            self._emit('transposed', (last,), nn.ConvTranspose2d(c, out, 2, stride=2))
        elif kind == 'residual':
            self._emit(
                'residual', (last,), nn.Sequential(nn.Conv2d(c, out, 1), nn.ReLU(), nn.Conv2d(out, c, 3, padding=1))
            )
        elif kind == 'linear':
            self._emit('linear', (last,), nn.Linear(c, out))
        elif kind == 'concatenated':
            self._emit('layer', (last,), Concatenated(c, out, rng))
        elif kind == 'mixed':
            self._emit('layer', (last,), rng.choice([EcaModule(kernel_size=3), SpatialAttn(3)]))
        elif kind == 'scaled':
            self._emit('layer', (last,), Scaled(c, out))
        elif kind == 'standardised':
            make = rng.choice([StdConv2d, ScaledStdConv2d, ScaledStdConv2dSame])
            groups = rng.choice([1, 1, 1, c])
            self._emit('layer', (last,), make(c, c if groups > 1 else out, 3, groups=groups))
        elif kind == 'response':
            norm = GlobalResponseNorm(c, channels_last=rng.random() < 0.5)
            for p in norm.parameters():
                nn.init.uniform_(p, 0.5, 1.5)
            self._emit('layer', (last,), Last(norm) if norm.channel_dim == -1 else norm)
        elif kind == 'activated':
            act = rng.choice([nn.ReLU, nn.GELU, nn.Sigmoid])
            norm = rng.choice(
                [GroupNormAct(c, rng.choice([1, *divisors]), act_layer=act), LayerNormAct2d(c, act_layer=act)]
            )
            for p in norm.parameters():
                nn.init.uniform_(p, 0.5, 1.5)
            self._emit('layer', (last,), norm)

    def _run_all(self, x: Tensor) -> list[Tensor]:
        values: list[Tensor] = []
        for kind, inputs, index, *rest in self.program:
            args = [values[i] for i in inputs] or [x]
            layer = self.layers[index] if index >= 0 else None
            a = args[0]
            if kind == 'layer':
                y = layer(a)
            elif kind == 'residual':
                y = a + layer(a)
            elif kind == 'add':
                y = a + args[1]
            elif kind == 'multiply':
                y = a * args[1].sigmoid()
            elif kind == 'cat':
                y = torch.cat(args, 1)
            elif kind == 'split':
                number, share = rest
                number = a.shape[1] // share if share else number
                first, second = a[:, :number], a[:, number:]
                y = torch.cat([second, first.relu()], 1)
            elif kind == 'halves':
                first, second = a.chunk(2, 1)
                y = first * second.tanh()
            elif kind == 'twice':
                y = layer(a) + layer(args[1])
            elif kind == 'pixel':
                y = layer(F.pixel_shuffle(a, 2))
            elif kind == 'transposed':
                y = F.avg_pool2d(layer(a), 2)
            elif kind == 'linear':
                y = layer(a.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            values.append(y)
        return values

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self._run_all(x)[-1].mean((2, 3)))
