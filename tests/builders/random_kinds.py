"""Steps of random networks that are known to have gone wrong once: one entry of ``KINDS`` for each kind."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations
from torch.nn.utils.weight_norm import weight_norm as old_weight_norm

from builders.kinds_folds import GainNorm, NormedAttention, OffsetLayerNorm, OffsetNorm
from builders.kinds_halves import Partial
from builders.kinds_numbers import NUMBERS, SCALES, Scores
from builders.kinds_state import (
    BiasCache,
    CachedFunction,
    Counts,
    Experts,
    GridPerShape,
    HelperKeeps,
    KeepsLast,
    Lazily,
    ReplacesBuffers,
    RotaryAttention,
    ScaleCache,
)
from builders.random_blocks import Cells, Cut, Deformed, Literal, Recurrent, Stage, Tokens, Volume

# Those of another map size, and of widths that are no factor.
UNFIT = {'avg_pool', 'max_pool', 'divisor', 'pad', 'several', 'arange of places'}
FITTING = [name for name in NUMBERS if name not in UNFIT]
STATES = [
    KeepsLast, Counts, HelperKeeps, GridPerShape, ReplacesBuffers, CachedFunction, Lazily, ScaleCache
]  # fmt: skip
GAINS = [torch.exp, torch.sigmoid, F.softplus, lambda w: 2 - w]


@dataclass
class Place:
    """Where a step comes to stand: behind the value ``last`` of ``c`` channels."""

    rng: random.Random
    last: int
    c: int
    out: int  # channels, if it wants other ones
    other: int  # any value
    same: list[int]  # values of as many channels
    divisors: list[int]  # of c
    act: nn.Module  # the network's one activation

    def layer(self, module: nn.Module) -> tuple:
        return 'layer', (self.last,), module

    def residual(self, module: nn.Module) -> tuple:
        return 'residual', (self.last,), module

    def either(self, module: nn.Module) -> tuple:
        return self.rng.choice([self.layer, self.residual])(module)


def _width(c: int, rng: random.Random) -> tuple[int, int]:
    """Heads, and a width that they divide: of the stream where it can be."""
    fitting = [h for h in (1, 2, 3, 4) if c % h == 0 and c // h > 1]
    return (rng.choice(fitting), c) if fitting else (1, c)


def _attention(p: Place):
    heads, c = _width(p.c, p.rng)
    norms = [OffsetNorm, OffsetLayerNorm, nn.LayerNorm, *(lambda n, g=g: GainNorm(n, g) for g in GAINS)]
    return p.either(Tokens(NormedAttention(c, heads, p.rng.choice(norms))))


def _keeping_attention(p: Place):
    heads, c = _width(p.c, p.rng)
    if c // heads % 2 or p.rng.random() < 0.5:
        return p.either(Tokens(BiasCache(c, heads, 16, p.rng.choice(['dict', 'attribute', 'switched']))))
    rotary = p.rng.choice([n for n in (2, 4, c // heads) if n <= c // heads])
    return p.either(Tokens(RotaryAttention(c, heads, rotary, p.rng.choice(['dict', 'attribute', 'buffer']), 16)))


def _scores(p: Place):
    heads, c = _width(p.c, p.rng)
    return p.either(Tokens(Scores(SCALES[p.rng.choice([*SCALES])], heads, c)))


class LiteralHeads(nn.Module):
    """A number of heads, or a head dim, that stands in the code."""

    def __init__(self, c: int, rng: random.Random) -> None:
        super().__init__()
        shape, width = rng.choice([((3, -1), 12), ((2, -1), 10), ((-1, 4), 12), ((3, 4), 12)])
        self.shape = Literal(shape)
        self.q, self.k, self.v, self.proj = *(nn.Linear(c, width) for _ in range(3)), nn.Linear(width, c)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (m(x).unflatten(-1, tuple(self.shape)).transpose(1, 2) for m in (self.q, self.k, self.v))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _inlined(p: Place):
    heads, c = _width(p.c, p.rng)
    layers = nn.ModuleDict({'norm': nn.LayerNorm(c), 'proj': nn.Linear(c, c)})
    fused = p.rng.random() < 0.5
    layers.update({'qkv': nn.Linear(c, 3 * c)} if fused else {k: nn.Linear(c, c) for k in 'qkv'})
    return 'inlined', (p.last,), layers, heads, p.rng.choice([*SCALES])


def _run_inlined(m, a: Tensor, heads: int, scale: str) -> Tensor:
    """Attention in the network's own forward; the head dim is of its stream."""
    b, c, h, w = a.shape
    x = m['norm'](a.flatten(2).transpose(1, 2))
    if 'qkv' in m:
        q, k, v = m['qkv'](x).reshape(b, h * w, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
    else:
        q, k, v = (m[n](x).reshape(b, h * w, heads, c // heads).transpose(1, 2) for n in 'qkv')
    weights = SCALES[scale](q @ k.transpose(-2, -1), c // heads).softmax(-1)
    y = m['proj']((weights @ v).transpose(1, 2).reshape(b, h * w, c))
    return a + y.transpose(1, 2).reshape(b, c, h, w)


def _number(p: Place):
    name = p.rng.choice(FITTING)
    return ('number', (p.last,), None, name) if name != 'frequencies' or p.c % 2 == 0 else None


def _run_number(layer, a: Tensor, name: str) -> Tensor:
    return NUMBERS[name](a, a.shape[1])


def _normed(p: Place):
    """A layer whose weight is made of others, alone or at the end of a branch."""
    make = p.rng.choice([old_weight_norm, parametrizations.weight_norm])
    kind = p.rng.randrange(4)
    if kind == 0:
        return p.layer(make(nn.Conv2d(p.c, p.out, 3, padding=1)))
    if kind == 1:
        return p.layer(make(nn.Conv2d(p.c, p.c, 3, padding=1, groups=p.c)))
    if kind == 2:
        return p.layer(Tokens(make(nn.Linear(p.c, p.out))))
    return p.layer(Stage(p.c, p.out, p.act, p.rng, wrap=p.rng.choice(['old weight_norm', 'weight_norm'])))


def _offset(p: Place):
    norms = [OffsetNorm(p.c), OffsetLayerNorm(p.c), *(GainNorm(p.c, g) for g in GAINS)]
    norm = p.rng.choice(norms)
    for x in norm.parameters():
        nn.init.uniform_(x, -0.5, 0.5)
    return p.layer(Tokens(norm))


def _partial(p: Place):
    if p.c < 4:
        return None
    layer = Partial(stored=p.rng.random() < 0.5)
    n = p.c // 4
    layer.conv, layer.n = nn.Conv2d(n, n, 3, padding=1), n
    return p.layer(layer)


# name -> what it draws: the program's kind, inputs, layer and more, or None where it doesn't fit
KINDS = {
    'keeps': lambda p: p.layer(p.rng.choice(STATES)()),
    'keeping attention': _keeping_attention,
    'offset gain': _offset,
    'offset gain on queries and keys': _attention,
    'cut': lambda p: p.layer(Cut(p.c, p.out, p.rng)),
    'partial': _partial,
    'literal heads': lambda p: p.either(Tokens(LiteralHeads(p.c, p.rng))),
    'inlined': _inlined,
    'shared activation': lambda p: p.layer(Stage(p.c, p.out, p.act, p.rng)),
    'difference': lambda p: p.layer(Stage(p.c, p.out, p.act, p.rng, how='minus')),
    'number': _number,
    'scale': _scores,
    'recurrent': lambda p: p.layer(Tokens(Recurrent(p.c, p.out, p.rng))),
    'cell': lambda p: p.layer(Cells(p.c, p.out, p.rng)),
    'experts': lambda p: p.either(Tokens(Experts(p.c, p.rng.choice([2, 3, 4]), p.out))),
    'volume': lambda p: p.layer(Volume(p.c, p.out, p.rng)),
    'deformed': lambda p: p.layer(Deformed(p.c, p.out, p.rng)),
    'weight norm': _normed,
}
RUN_KINDS = {'inlined': _run_inlined, 'number': _run_number}
