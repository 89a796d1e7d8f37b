"""The smallest networks that keep something from one forward to the next, switch modes by a protocol of their own, or
decide by their data."""

from __future__ import annotations

import collections
import functools
import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations

GLOBAL: dict = {}


def images(batch: int = 2, side: int = 6) -> Tensor:
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def tokens(batch: int = 2, length: int = 5, width: int = 12) -> Tensor:
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(0))


class Body(nn.Module):
    """Two convolutions with something between them, and a classifier."""

    def __init__(self, middle: nn.Module, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.middle = middle
        self.tail = nn.Conv2d(width, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tail(self.middle(self.stem(x)).relu()).mean((2, 3)))


# -- kind 11: what a forward leaves behind


class KeepsLast(nn.Module):
    """The activation itself, under several names and in several containers."""

    def __init__(self) -> None:
        super().__init__()
        self.last = None
        self.history: list = []
        self.recent: collections.deque = collections.deque(maxlen=2)
        self.nested = {'a': [{}]}

    def forward(self, x: Tensor) -> Tensor:
        self.last = x
        self.history.append(x)
        self.recent.append(x.mean())
        self.nested['a'][0]['x'] = (x, x.shape)
        self.new = x
        return x


class Counts(nn.Module):
    """Numbers and keys, no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.seen, self.names = 0, set(), collections.Counter()
        self.first = [1]

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.add((self.calls, x.shape[2]))
        self.names['call'] += 1
        self.first[0] = self.calls
        return x


class Helper:
    """An object that is no module and keeps tensors."""

    __slots__ = ('tables', 'last')

    def __init__(self) -> None:
        self.tables: dict = {}
        self.last = None

    def grid(self, side: int) -> Tensor:
        if side not in self.tables:
            self.tables[side] = torch.linspace(0, 1, side).view(1, 1, 1, side)
        self.last = self.tables[side]
        return self.last


class HelperKeeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.helper = Helper()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.helper.grid(x.shape[-1])


class GridPerShape(nn.Module):
    """Anchors of a detector: made once for every size of map."""

    def __init__(self) -> None:
        super().__init__()
        self.grids: dict = {}

    def forward(self, x: Tensor) -> Tensor:
        key = tuple(x.shape[2:])
        if key not in self.grids:
            self.grids[key] = torch.arange(key[0] * key[1], dtype=x.dtype).view(1, 1, *key)
        return x * 0.5 + self.grids[key] / 10


class ReplacesBuffers(nn.Module):
    """Buffers that are replaced, registered, and deleted in a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('table', torch.zeros(1), persistent=False)
        self.register_buffer('step', torch.zeros((), dtype=torch.long))
        self.register_buffer('scratch', torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.table = torch.linspace(0, 1, x.shape[-1])
        self.step += 1
        self.register_buffer('late', torch.ones(x.shape[-1]), persistent=False)
        if 'scratch' in self._buffers:
            del self.scratch
        return x + self.table * self.late


class ClassKeeps(nn.Module):
    """On the class, for all of its instances."""

    tables: dict = {}
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        type(self).shape = x.shape
        if x.shape[-1] not in self.tables:
            self.tables[x.shape[-1]] = torch.linspace(0, 1, x.shape[-1])
        return x + self.tables[x.shape[-1]]


class GlobalKeeps(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] not in GLOBAL:
            GLOBAL[x.shape[-1]] = torch.linspace(0, 1, x.shape[-1])
        return x + GLOBAL[x.shape[-1]]


@functools.lru_cache
def table_of(side: int) -> Tensor:
    return torch.linspace(0, 1, side)


class CachedFunction(nn.Module):
    """A function of a shape that returns the same tensor every time."""

    def forward(self, x: Tensor) -> Tensor:
        return x + table_of(x.shape[-1])


class CachedMethod(nn.Module):
    @functools.cache  # noqa: B019 - it is what such models do
    def table(self, side: int) -> Tensor:
        return torch.linspace(0, 1, side)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(x.shape[-1])


def _remembering():
    kept: dict = {}

    def table(side: int) -> Tensor:
        if side not in kept:
            kept[side] = torch.linspace(0, 1, side)
        return kept[side]

    return table


class ClosureKeeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = _remembering()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table(x.shape[-1])


class Lazily(nn.Module):
    @functools.cached_property
    def gain(self) -> Tensor:
        return torch.full((1,), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class Draws(nn.Module):
    """Numbers of every generator, and flags of the process."""

    def __init__(self) -> None:
        super().__init__()
        self.own = random.Random(0)
        self.numpy = np.random.default_rng(0)
        self.torch = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(3)
        noise = random.random() + np.random.rand() + self.own.random() + self.numpy.random()
        noise += float(torch.rand(1, generator=self.torch).shape[0])
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision('medium')
        return x * (1 + 0 * noise)


def nothing(module, args, out) -> None:
    pass


class HooksItself(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.register_forward_hook(nothing)
        return x


# -- kind 14: a model that has already run


class BiasCache(nn.Module):
    """Attention with a table of biases by relative position, that is looked up once while in eval mode."""

    def __init__(self, width: int = 12, heads: int = 3, length: int = 5, keep: str = 'dict') -> None:
        super().__init__()
        self.heads, self.keep = heads, keep
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.biases = nn.Parameter(torch.randn(heads, length))
        place = torch.arange(length)
        self.register_buffer('place', (place[:, None] - place[None]).abs(), persistent=False)
        self.cache: dict = {}
        if keep == 'attribute':
            self.ab = None

    @torch.no_grad()
    def train(self, mode: bool = True) -> BiasCache:
        super().train(mode)
        if mode and self.keep == 'dict' and self.cache:
            self.cache = {}
        if self.keep == 'switched':
            if mode and hasattr(self, 'ab'):
                del self.ab
            elif not mode:
                self.ab = self.biases[:, self.place]
        if self.keep == 'attribute' and mode:
            self.ab = None
        return self

    def bias(self, device: torch.device) -> Tensor:
        if self.training:
            return self.biases[:, self.place]
        if self.keep == 'dict':
            if str(device) not in self.cache:
                self.cache[str(device)] = self.biases[:, self.place]
            return self.cache[str(device)]
        if self.keep == 'attribute' and self.ab is None:
            self.ab = self.biases[:, self.place]
        return self.ab

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * 0.5 + self.bias(x.device)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1))


class Tokens(nn.Module):
    """An attention between two linear layers."""

    def __init__(self, attention: nn.Module, width: int = 12) -> None:
        super().__init__()
        self.embed, self.attention, self.head = nn.Linear(width, width), attention, nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head((x + self.attention(x)).mean(1))


def _rotate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1)


class Rope(nn.Module):
    """Rotary positions, tables kept by length: in a dict, in attributes beside the length, or in buffers."""

    def __init__(self, dim: int, keep: str) -> None:
        super().__init__()
        self.dim, self.keep = dim, keep
        self.tables: dict = {}
        self.length, self.cos, self.sin = 0, None, None

    def make(self, n: int) -> tuple[Tensor, Tensor]:
        angle = torch.arange(n)[:, None] / 100 ** (torch.arange(0, self.dim, 2) / self.dim)
        angle = torch.cat([angle, angle], -1)
        return angle.cos(), angle.sin()

    def forward(self, n: int) -> tuple[Tensor, Tensor]:
        if self.keep == 'dict':
            if n not in self.tables:
                self.tables[n] = self.make(n)
            return self.tables[n]
        if n > self.length:
            self.length = n
            self.cos, self.sin = self.make(n)
        return self.cos[:n], self.sin[:n]


class RotaryAttention(nn.Module):
    """Rotary positions on the first ``rotary`` positions of each head, the rest as it is (it may be nothing)."""

    def __init__(self, width: int = 12, heads: int = 3, rotary: int = 4, keep: str = 'dict', length: int = 5) -> None:
        super().__init__()
        self.heads, self.rotary, self.keep = heads, rotary, keep
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rope = Rope(rotary, keep)
        if keep == 'buffer':
            cos, sin = self.rope.make(length)
            self.register_buffer('cos', cos, persistent=False)
            self.register_buffer('sin', sin, persistent=False)

    def turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        turned, rest = x[..., : self.rotary], x[..., self.rotary :]
        return torch.cat([turned * cos + _rotate(turned) * sin, rest], -1)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        cos, sin = (self.cos[:n], self.sin[:n]) if self.keep == 'buffer' else self.rope(n)
        q, k = self.turn(q, cos, sin), self.turn(k, cos, sin)
        return self.proj(((q @ k.transpose(-2, -1) / 2).softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1))


class ScaleCache(nn.Module):
    """A table over the channels, made anew when their number changes; and numbers kept beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.shape, self.table, self.count = None, None, None

    def forward(self, x: Tensor) -> Tensor:
        if self.shape != x.shape[1:]:
            self.shape, self.table = x.shape[1:], torch.ones(x.shape[1:]) / 2
        if self.count is None:
            self.count = x.shape[1]
        return x.reshape(x.shape[0], self.count, *x.shape[2:]) * self.table


# -- kind 12: modules with a protocol of their own for modes


class Merged(nn.Linear):
    """Low-rank updates that ``eval()`` adds to the weight and ``train()`` takes off again."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(fan_in, fan_out)
        self.down, self.up = nn.Parameter(torch.randn(2, fan_in)), nn.Parameter(torch.randn(fan_out, 2))
        self.merged = False

    def train(self, mode: bool = True) -> Merged:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down)
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight, self.bias)
        return y if self.merged else y + F.linear(F.linear(x, self.down), self.up)


class Unrolled(nn.Module):
    """A recurrent layer, which has a list of its weights beside them."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.layer = nn.GRU(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


# -- kind 17


def spectral() -> nn.Module:
    return nn.Sequential(
        nn.Linear(12, 8), nn.ReLU(), parametrizations.spectral_norm(nn.Linear(8, 10)), nn.ReLU(), nn.Linear(10, 4)
    )


# -- kind 16: forwards that depend on data


class Selects(nn.Module):
    """Takes the positions with a positive score: how many there are, the data tell."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.score = nn.Linear(12, 16), nn.Linear(16, 1)
        self.hidden, self.head = nn.Linear(16, 10), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x)
        place = torch.nonzero(self.score(y)[..., 0] > -9)
        chosen = y[place[:, 0], place[:, 1]]
        return self.head(self.hidden(chosen).relu()).mean(0, keepdim=True)


class Experts(nn.Module):
    """A mixture in which each expert sees the tokens that are sent to it."""

    def __init__(self, width: int = 12, experts: int = 4, hidden: int = 10) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)) for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weight, chosen = self.gate(flat).softmax(-1).topk(2, -1)
        out = torch.zeros_like(flat)
        for k, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == k)
            out.index_add_(0, token, expert(flat[token]) * weight[token, slot, None])
        return out.view_as(x)


class ReadsNumber(nn.Module):
    """A number in a float tensor that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.tensor([0.5])
        self.register_buffer('shift', torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain.item() + float(self.shift)


class ListOfImages(nn.Module):
    """Takes a list of images of several sizes, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Body(nn.Identity())

    def forward(self, batch: list) -> list:
        side = max(x.shape[-1] for x in batch)
        padded = torch.stack([F.pad(x, (0, side - x.shape[-1], 0, side - x.shape[-2])) for x in batch])
        scores = self.body(padded)
        return [{'scores': s[s > -9]} for s in scores]


def _body(middle):
    return lambda: (Body(middle()), images())


def _tokens(attention, **settings):
    return lambda: (Tokens(attention(**settings)), tokens())


STATE = [
    KeepsLast, Counts, HelperKeeps, GridPerShape, ReplacesBuffers, ClassKeeps, GlobalKeeps, CachedFunction,
    CachedMethod, ClosureKeeps, Lazily, Draws, HooksItself,
]  # fmt: skip

KINDS = [
    *((cls.__name__, 11, _body(cls)) for cls in STATE),
    ('bias cache in a dict', 14, _tokens(BiasCache, keep='dict')),
    ('bias cache in an attribute', 14, _tokens(BiasCache, keep='attribute')),
    ('rotary tables in a dict', 14, _tokens(RotaryAttention, keep='dict', rotary=2)),
    ('rotary tables in attributes', 14, _tokens(RotaryAttention, keep='attribute', rotary=2)),
    ('a table over channels', 14, _body(ScaleCache)),
    ('bias made on eval()', 12, _tokens(BiasCache, keep='switched')),
    ('low-rank update merged on eval()', 12, lambda: (Tokens(Merged(12, 12)), tokens())),
    ('a recurrent layer', 15, lambda: (Tokens(Unrolled()), tokens())),
    ('spectral norm', 17, lambda: (spectral(), tokens()[:, 0])),
    ('rotary rest is empty', 17, _tokens(RotaryAttention, keep='dict', rotary=4)),
    ('rotary tables in buffers', 17, _tokens(RotaryAttention, keep='buffer', rotary=4)),
    ('nonzero', 16, lambda: (Selects(), tokens())),
    ('mixture of experts', 16, lambda: (Tokens(Experts()), tokens())),
    ('numbers in float tensors', 16, _body(ReadsNumber)),
    ('a list of images', 16, lambda: (ListOfImages(), ([images(1, 6)[0], images(1, 5)[0]],))),
]
