"""Random networks of every kind of operator that ties channels: what equivalence must hold over.

A step's table entry, ``STEPS`` here and ``KINDS`` of random_kinds, draws what it is made of, or gives None where it
doesn't fit; ``RUN`` says what it computes.
"""

from __future__ import annotations

import copy
import random

import torch
from timm.layers import EcaModule, GroupNormAct, LayerNormAct2d, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d
from timm.layers.cbam import SpatialAttn
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from builders.random_kinds import KINDS, RUN_KINDS, Place
from builders.random_layers import Attention, Concatenated, Gate, Glu, Last, Norm2d, Scaled, Shuffle

SIDE = 4
OLD = (
    'conv conv conv depthwise grouped norm norm act add add cat split gate attention attention shuffle glu '
    'shared multiply pixel transposed residual slice linear'
).split()
# Came later: seeds from 500 on use them, too, and those below keep their networks.
# Those from 1000 on may mix channels, too, and half of the steps of those from 2000 on are of KINDS.
MORE = 'concatenated concatenated standardised standardised response activated scaled'.split()
MIXED = ['mixed'] * 3
NEW = 2000


def uniform(module: nn.Module) -> nn.Module:
    """The module with gains and shifts that hide nothing."""
    for p in module.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    return module


def _norm(p: Place):
    norms = [nn.BatchNorm2d(p.c), Norm2d(p.c), nn.GroupNorm(1, p.c), nn.InstanceNorm2d(p.c, affine=True)]
    norms += [nn.GroupNorm(g, p.c) for g in p.divisors]
    return p.layer(uniform(p.rng.choice(norms)))


def _grouped(p: Place):
    g = p.rng.choice(p.divisors)
    return p.layer(nn.Conv2d(p.c, g * p.rng.choice([2, 3]), 3, padding=1, groups=g))


def _split(p: Place):
    first = p.rng.randrange(1, p.c - 1)
    # By a share of the width, or a number.
    share = p.c // first if p.c % first == 0 and first > 1 else 0
    return 'split', (p.last,), None, first, share


def _residual(p: Place):
    return p.residual(nn.Sequential(nn.Conv2d(p.c, p.out, 1), nn.ReLU(), nn.Conv2d(p.out, p.c, 3, padding=1)))


def _standardised(p: Place):
    make = p.rng.choice([StdConv2d, ScaledStdConv2d, ScaledStdConv2dSame])
    groups = p.rng.choice([1, 1, 1, p.c])
    return p.layer(make(p.c, p.c if groups > 1 else p.out, 3, groups=groups))


def _response(p: Place):
    norm = uniform(GlobalResponseNorm(p.c, channels_last=p.rng.random() < 0.5))
    return p.layer(Last(norm) if norm.channel_dim == -1 else norm)


def _activated(p: Place):
    act = p.rng.choice([nn.ReLU, nn.GELU, nn.Sigmoid])
    groups = p.rng.choice([1, *p.divisors])
    return p.layer(
        uniform(p.rng.choice([GroupNormAct(p.c, groups, act_layer=act), LayerNormAct2d(p.c, act_layer=act)]))
    )


def _attention(p: Place):
    where = 'residual' if p.rng.random() < 0.5 else 'layer'
    return where, (p.last,), Attention(p.c, p.rng)


STEPS = {
    'conv': lambda p: p.layer(nn.Conv2d(p.c, p.out, p.rng.choice([1, 3]), padding='same')),
    'depthwise': lambda p: p.layer(nn.Conv2d(p.c, p.c, 3, padding=1, groups=p.c)),
    'grouped': lambda p: _grouped(p) if p.divisors else None,
    'norm': _norm,
    'act': lambda p: p.layer(p.rng.choice([nn.ReLU(), nn.GELU(), nn.Sigmoid(), nn.PReLU(p.c), nn.Hardswish()])),
    'add': lambda p: ('add', (p.last, p.rng.choice(p.same))) if p.same else None,
    'multiply': lambda p: ('multiply', (p.last, p.rng.choice(p.same))) if p.same else None,
    'cat': lambda p: ('cat', (p.last, p.other)),
    'split': lambda p: _split(p) if p.c >= 4 else None,
    'slice': lambda p: ('halves', (p.last,)) if p.c % 2 == 0 else None,
    'gate': lambda p: p.layer(Gate(p.c)),
    'attention': _attention,
    'shuffle': lambda p: p.layer(Shuffle(p.rng.choice(p.divisors))) if p.divisors else None,
    'glu': lambda p: p.residual(Glu(p.c, p.out)),
    'shared': lambda p: ('twice', (p.last, p.rng.choice(p.same)), nn.Conv2d(p.c, p.c, 1)) if p.same else None,
    'pixel': lambda p: ('pixel', (p.last,), nn.Conv2d(p.c // 4, p.out, 2, stride=2)) if p.c % 4 == 0 else None,
    'transposed': lambda p: ('transposed', (p.last,), nn.ConvTranspose2d(p.c, p.out, 2, stride=2)),
    'residual': _residual,
    'linear': lambda p: ('linear', (p.last,), nn.Linear(p.c, p.out)),
    'concatenated': lambda p: p.layer(Concatenated(p.c, p.out, p.rng)),
    'mixed': lambda p: p.layer(p.rng.choice([EcaModule(kernel_size=3), SpatialAttn(3)])),
    'scaled': lambda p: p.layer(Scaled(p.c, p.out)),
    'standardised': _standardised,
    'response': _response,
    'activated': _activated,
}


def _run_split(layer, a: Tensor, number: int, share: int) -> Tensor:
    number = a.shape[1] // share if share else number
    first, second = a[:, :number], a[:, number:]
    return torch.cat([second, first.relu()], 1)


def _run_halves(layer, a: Tensor) -> Tensor:
    first, second = a.chunk(2, 1)
    return first * second.tanh()


# (layer, *inputs, *rest) -> what a step of this kind computes
RUN = {
    'layer': lambda layer, a: layer(a),
    'residual': lambda layer, a: a + layer(a),
    'add': lambda layer, a, b: a + b,
    'multiply': lambda layer, a, b: a * b.sigmoid(),
    'cat': lambda layer, a, b: torch.cat([a, b], 1),
    'split': _run_split,
    'halves': _run_halves,
    'twice': lambda layer, a, b: layer(a) + layer(b),
    'pixel': lambda layer, a: layer(F.pixel_shuffle(a, 2)),
    'transposed': lambda layer, a: F.avg_pool2d(layer(a), 2),
    'linear': lambda layer, a: layer(a.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    **RUN_KINDS,
}


class RandomNet(nn.Module):
    """A program of ``length`` random steps over maps of (B, C, 4, 4); the same seed gives the same network.

    Attributes:
        kinds: the entries of the tables that its steps are of.
    """

    @torch.no_grad()  # else the weights of weight_norm can't be copied
    def __init__(self, seed: int, length: int = 9) -> None:
        super().__init__()
        rng = random.Random(seed)
        names = OLD + (MORE if seed >= 500 else []) + (MIXED if seed >= 1000 else [])
        torch.manual_seed(seed)
        # The others have run before they are traced, which leaves something behind in some layers.
        self.fresh = seed >= NEW and seed % 2 == 0
        self.layers = nn.ModuleList()
        self.program: list[tuple] = []
        self.shapes: list[int] = []
        self.kinds: list[str] = []
        act = nn.ReLU()
        self._emit('layer', (), nn.Conv2d(3, rng.choice([4, 6, 8, 12]), 3, padding=1))
        while len(self.program) < length:
            last = len(self.program) - 1
            c = self.shapes[last]
            other = rng.randrange(len(self.program))
            same = [i for i, n in enumerate(self.shapes) if n == c and i != last]
            out = rng.choice([4, 6, 8, 12])
            place = Place(rng, last, c, out, other, same, [g for g in (2, 3, 4) if c % g == 0], act)
            table = KINDS if seed >= NEW and rng.random() < 0.5 else STEPS
            kind = rng.choice(names if table is STEPS else list(KINDS))
            step = table[kind](place)
            if step is not None:
                self._emit(*step)
                self.kinds.append(kind)
        self.head = nn.Linear(self.shapes[-1], 5)

    def _emit(self, kind: str, inputs: tuple[int, ...], layer: nn.Module | None = None, *rest) -> None:
        index = -1
        if layer is not None:
            index = len(self.layers)
            self.layers.append(layer)
        self.program.append((kind, inputs, index, *rest))
        net = copy.deepcopy(self) if self.fresh else self
        self.shapes.append(net._run_all(torch.zeros(2, 3, SIDE, SIDE))[-1].shape[1])

    def _run_all(self, x: Tensor) -> list[Tensor]:
        values: list[Tensor] = []
        for kind, inputs, index, *rest in self.program:
            layer = self.layers[index] if index >= 0 else None
            values.append(RUN[kind](layer, *([values[i] for i in inputs] or [x]), *rest))
        return values

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self._run_all(x)[-1].mean((2, 3)))
