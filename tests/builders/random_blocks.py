"""Parts of random networks that take and give maps (B, C, H, W): stages, cuts, recurrent and 3d layers, others."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations
from torch.nn.utils.weight_norm import weight_norm as old_weight_norm
from torchvision.ops import deform_conv2d

Wrap = Callable[[nn.Module], nn.Module]
# What a layer's weight may go through.
WRAPS: dict[str, Wrap] = {
    'plain': lambda layer: layer,
    'old weight_norm': old_weight_norm,
    'weight_norm': parametrizations.weight_norm,
    'spectral_norm': parametrizations.spectral_norm,
}


class Tokens(nn.Module):
    """A module for sequences (B, H * W, C)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])


# How the sum of a block is written.
SUMS: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    'plus': lambda m, x, y: x + y,
    'minus': lambda m, x, y: x - y,
    'gamma on the left': lambda m, x, y: x + m.gamma * y,
    'gamma by shape': lambda m, x, y: x + y * m.gamma.view(1, -1, 1, 1),
    'one gamma': lambda m, x, y: x + m.gamma.mean() * y,
    'drop path': lambda m, x, y: x + m.drop(y),
    'gamma and drop path': lambda m, x, y: x + m.drop(m.gamma * y),
    'into the branch': lambda m, x, y: y.add_(x),
    'permuted': lambda m, x, y: x + y.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    'with a factor': lambda m, x, y: torch.add(x, y, alpha=0.5),
}


class Block(nn.Module):
    """A residual block, which may return a size, or what else it is given, beside its result."""

    def __init__(self, c: int, hidden: int, act: nn.Module, how: str, wrap: Wrap, after: bool, norm: bool) -> None:
        super().__init__()
        self.how, self.after = how, after
        self.one, self.act, self.drop = nn.Conv2d(c, hidden, 1), act, DropPath(0.2)
        self.two = wrap(nn.Conv2d(hidden, c, 3, padding=1))
        self.norm = nn.BatchNorm2d(c) if norm else nn.Identity()
        self.gamma = nn.Parameter(torch.rand(c, 1, 1) + 0.5)

    def forward(self, x: Tensor, *others) -> Tensor | tuple:
        y = SUMS[self.how](self, x, self.norm(self.two(self.act(self.one(x)))))
        y = self.act(y) if self.after else y
        return (y, *others) if others else y


class Stage(nn.Module):
    """Blocks that share one activation, behind it or not, and pass something on."""

    def __init__(self, c: int, hidden: int, act: nn.Module, rng: random.Random, how: str = '', wrap: str = '') -> None:
        super().__init__()
        how, wrap = how or rng.choice([*SUMS]), wrap or rng.choice(['plain', 'plain', *WRAPS])
        self.first = act if rng.random() < 0.5 else nn.Identity()
        after, norm = rng.random() < 0.5, rng.random() < 0.5
        self.passes = rng.choice(['nothing', 'nothing', 'size', 'tensor'])
        self.blocks = nn.ModuleList(
            Block(c, hidden, act, how, WRAPS[wrap], after, norm) for _ in range(rng.choice([1, 2, 3]))
        )

    def forward(self, x: Tensor) -> Tensor:
        x, first = self.first(x), x
        for block in self.blocks:
            if self.passes == 'nothing':
                x = block(x)
            elif self.passes == 'size':
                x, _ = block(x, x.shape[2:])
            else:
                x, first = block(x, first)
        return x if self.passes != 'tensor' else x + first.mean((2, 3), keepdim=True)


# name -> pieces of x at n
CUTS: dict[str, Callable[[nn.Module, Tensor], tuple[Tensor, ...]]] = {
    'literal': lambda m, x: x.split(list(m.literal), 1),
    'stored': lambda m, x: torch.split(x, m.sizes, dim=1),
    'slices': lambda m, x: (x[:, : m.literal[0]], x[:, m.literal[0] :]),
    'stored slices': lambda m, x: (x[:, : m.first], x[:, m.first :]),
    'narrow': lambda m, x: (x.narrow(1, 0, m.literal[0]), x.narrow(1, m.literal[0], m.literal[1])),
    'at': lambda m, x: x.tensor_split([m.literal[0]], 1),
    'chunks': lambda m, x: x.chunk(2, 1),
    'tensor_split': lambda m, x: x.tensor_split(2, 1),
    'a third': lambda m, x: (x[:, : x.shape[1] // 3], x[:, x.shape[1] // 3 :]),
    'two thirds': lambda m, x: x.split([x.shape[1] * 2 // 3, x.shape[1] - x.shape[1] * 2 // 3], 1),
    'a share': lambda m, x: (x[:, : int(x.shape[1] * 0.25)], x[:, int(x.shape[1] * 0.25) :]),
}


class Cut(nn.Module):
    """Pieces of a width at a number, at a stored one, or at a share: each is read by itself, or one alone."""

    def __init__(self, c: int, out: int, rng: random.Random) -> None:
        super().__init__()
        width = rng.choice([0, 5, 7, 8, 9, 12])  # none: it is the stream that is cut
        self.stem = nn.Conv2d(c, width, 1) if width or c < 4 else nn.Identity()
        width = self.stem.weight.shape[0] if width else c
        self.how = rng.choice([*CUTS])
        self.first = rng.randrange(1, width)
        self.sizes = [self.first, width - self.first]
        self.literal = Literal(self.sizes)
        with torch.no_grad():
            sizes = [y.shape[1] for y in CUTS[self.how](self, torch.zeros(1, width, 1, 1))]
        self.alone = rng.choice([None, None, 0, 1])
        self.joined = rng.random() < 0.3
        self.parts = nn.ModuleList(
            nn.Conv2d(n, out, rng.choice([1, 3]), padding='same')
            for k, n in enumerate(sizes)
            if n and self.alone in (None, k)
        )
        self.places = [k for k, n in enumerate(sizes) if n and self.alone in (None, k)]

    def forward(self, x: Tensor) -> Tensor:
        pieces = CUTS[self.how](self, self.stem(x))
        parts = [part(pieces[k]) for part, k in zip(self.parts, self.places)]
        return torch.cat(parts, 1) if self.joined else sum(parts[1:], parts[0])


class Literal:
    """Numbers as code has them: nothing that a module stores."""

    __slots__ = ('numbers',)

    def __init__(self, numbers) -> None:
        self.numbers = tuple(numbers)

    def __iter__(self):
        return iter(self.numbers)

    def __getitem__(self, place: int) -> int:
        return self.numbers[place]


class Recurrent(nn.Module):
    """LSTM, GRU or RNN over the positions of a map."""

    def __init__(self, c: int, out: int, rng: random.Random) -> None:
        super().__init__()
        make, both = rng.choice([nn.LSTM, nn.GRU, nn.RNN]), rng.random() < 0.3
        self.layer = make(c, out, rng.choice([1, 2]), batch_first=True, bidirectional=both)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class Cells(nn.Module):
    """A recurrent cell over the columns of a map, whose state is made by a width that it stores, or by itself."""

    def __init__(self, c: int, out: int, rng: random.Random) -> None:
        super().__init__()
        self.cell = rng.choice([nn.LSTMCell, nn.GRUCell, nn.RNNCell])(c, out)
        self.given = rng.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.cell.hidden_size) if self.given else None
        state = (h, h) if self.given and isinstance(self.cell, nn.LSTMCell) else h
        outputs = []
        for column in x.mean(2).unbind(-1):
            state = self.cell(column, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, -1)[:, :, None].expand(-1, -1, x.shape[2], -1)


# What goes on in a volume (B, C, 2, H, W).
VOLUMES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    'plain': lambda m, x: x,
    'max pool': lambda m, x: F.max_pool3d(x, (2, 1, 1)),
    'average pool': lambda m, x: F.avg_pool3d(x, (1, 3, 3), 1, (0, 1, 1)),
    'nearest': lambda m, x: F.interpolate(x, scale_factor=(2, 1, 1), mode='nearest'),
    'trilinear': lambda m, x: F.interpolate(x, size=(3, *x.shape[3:]), mode='trilinear', align_corners=False),
    'pad': lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 1), mode='replicate'),
    'norm': lambda m, x: m.norm(x),
    'adaptive': lambda m, x: F.adaptive_avg_pool3d(x, (1, *x.shape[3:])),
}


class Volume(nn.Module):
    """A map and itself turned, as a volume: 3d layers, and back."""

    def __init__(self, c: int, out: int, rng: random.Random) -> None:
        super().__init__()
        groups = c if rng.random() < 0.3 else 1
        out = c if groups > 1 else out
        self.conv = nn.Conv3d(c, out, rng.choice([1, 3]), padding='same', groups=groups)
        self.norm, self.how, self.last = nn.BatchNorm3d(out), rng.choice([*VOLUMES]), rng.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x.unsqueeze(2), x.flip(3).unsqueeze(2)], 2)
        x = VOLUMES[self.how](self, self.conv(x))
        return x[:, :, -1] if self.last else x.mean(2)


class Deformed(nn.Module):
    """A deformable convolution, its offsets made by a convolution."""

    def __init__(self, c: int, out: int, rng: random.Random) -> None:
        super().__init__()
        parts = rng.choice([1, 1, *(g for g in (2, 3) if c % g == 0)])
        self.offset = nn.Conv2d(c, 18 * parts, 1)
        self.mask = nn.Conv2d(c, 9 * parts, 3, padding=1) if rng.random() < 0.5 else None
        groups = rng.choice([1, 1, *(g for g in (2,) if c % g == 0)])
        self.weight = nn.Parameter(torch.randn(out, c // groups, 3, 3) / (3 * c**0.5))
        self.bias = nn.Parameter(torch.rand(out)) if rng.random() < 0.5 else None

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask(x).sigmoid() if self.mask is not None else None
        return deform_conv2d(x, self.offset(x).tanh(), self.weight, self.bias, padding=1, mask=mask)
