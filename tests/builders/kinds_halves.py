"""Networks that cut a width in parts by numbers that come from it, in as many ways as code has for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

MAP = (2, 3, 6, 6)


class Parts(nn.Module):
    """Consumers of parts of one tensor, by ``cut(self, x)``; it may store what its cut goes by."""

    def __init__(self, cut, sizes, channels, stored):
        super().__init__()
        self.cut, self.stem = cut, nn.Conv2d(3, channels, 3, padding=1)
        self.parts = nn.ModuleList(nn.Conv2d(n, 7, 1) for n in sizes)
        self.out = nn.Conv2d(7, 5, 1)
        vars(self).update(stored)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(sum(m(y) for m, y in zip(self.parts, self.cut(self, self.stem(x).tanh()))))


class Unit(nn.Module):
    """One half passes, the other goes through layers, then both are shuffled (ShuffleNet)."""

    def __init__(self, groups=2, width=12, cut=lambda x: (x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :])):
        super().__init__()
        self.groups, self.cut = groups, cut
        self.one, self.two = nn.Conv2d(width // 2, 8, 1), nn.Conv2d(8, width // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.cut(x)
        y = torch.cat([left, self.two(self.one(right).relu())], 1)
        b, c, h, w = y.shape
        return y.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class Partial(nn.Module):
    """A convolution of the first quarter of a map, written over a copy of it (FasterNet's other way)."""

    def __init__(self, stored):
        super().__init__()
        self.conv, self.n, self.stored = nn.Conv2d(3, 3, 3, padding=1), 3, stored

    def forward(self, x: Tensor) -> Tensor:
        n = self.n if self.stored else x.shape[1] // 4
        x = x.clone()
        x[:, :n] = self.conv(x[:, :n])
        return x


class Gated(nn.Module):
    """A gated feed-forward layer whose halves are slices of the last dimension."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Linear(8, 20), nn.Linear(10, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.wide(x)
        n = y.shape[-1] // 2
        return x + self.narrow(y[..., :n] * F.gelu(y[..., n:]))


def around(*blocks, width=12):
    return nn.Sequential(nn.Conv2d(3, width, 1), *blocks, nn.Conv2d(width, 4, 1))


def behind(module):
    return nn.Sequential(nn.Conv2d(3, 7, 1), nn.Conv2d(7, 3, 1), module)


def _thirds(m, x):
    n = x.shape[1] // 3
    return x[:, :n], x[:, n : 2 * n], x[:, 2 * n :]


def _at(x, n):
    return x[:, :n], x[:, n:]


def _from_behind(m, x):
    n = x.shape[1] // 2
    return x[:, :-n], x[:, -n:]


# name -> cut, sizes of the parts, what is stored, sizes of units of the width that is cut
CUTS = {
    'halves': (lambda m, x: _at(x, x.shape[1] // 2), (6, 6), {}, [6]),
    'halves from behind': (_from_behind, (6, 6), {}, [6]),
    'first half alone': (lambda m, x: [x[:, : x.shape[1] // 2]], (6,), {}, [6]),  # the other goes with it
    'literal first half alone': (lambda m, x: [x[:, :6]], (6,), {}, [6]),  # the other goes alone
    'last half alone': (lambda m, x: [x[:, x.shape[1] // 2 :]], (6,), {}, [6]),
    'halves of an odd width': (lambda m, x: _at(x, x.shape[1] // 2), (4, 5), {}, [4]),
    'thirds': (_thirds, (4, 4, 4), {}, [4]),
    'a third': (lambda m, x: _at(x, x.shape[1] // 3), (4, 8), {}, [4]),
    'two thirds': (lambda m, x: _at(x, x.shape[1] * 2 // 3), (8, 4), {}, [4]),
    'a quarter by a share': (lambda m, x: _at(x, int(x.shape[1] * 0.25)), (3, 9), {}, [3]),
    'halves by an attribute': (lambda m, x: _at(x, m.half), (6, 6), {'half': 6}, [6, 6]),
    'uneven by an attribute': (lambda m, x: _at(x, m.first), (5, 7), {'first': 5}, [5, 7]),
    'halves of a stored width': (lambda m, x: _at(x, m.width // 2), (6, 6), {'width': 12}, [6]),
    'narrow': (lambda m, x: [x.narrow(1, k * x.shape[1] // 2, x.shape[1] // 2) for k in (0, 1)], (6, 6), {}, [6]),
    'split in halves': (lambda m, x: x.split(x.shape[1] // 2, 1), (6, 6), {}, [6]),
    'split in thirds': (lambda m, x: x.split(x.shape[1] // 3, 1), (4, 4, 4), {}, [4]),
    'split in a third and the rest': (
        lambda m, x: x.split([x.shape[1] // 3, x.shape[1] - x.shape[1] // 3], 1), (4, 8), {}, [4],
    ),
    'tensor_split': (lambda m, x: x.tensor_split(2, 1), (6, 6), {}, [6]),
    'tensor_split in three': (lambda m, x: x.tensor_split(3, 1), (4, 4, 4), {}, [4]),
    'tensor_split uneven': (lambda m, x: x.tensor_split(2, 1), (5, 4), {}, [4]),
    'tensor_split uneven in three': (lambda m, x: x.tensor_split(3, 1), (4, 4, 3), {}, [3]),
    'tensor_split at a width': (lambda m, x: x.tensor_split([x.shape[1] // 2], 1), (6, 6), {}, [6]),
    'chunks uneven': (lambda m, x: x.chunk(2, 1), (5, 4), {}, [3]),
    'chunks uneven in three': (lambda m, x: x.chunk(3, 1), (4, 4, 2), {}, [2]),
    'view in two': (lambda m, x: x.view(len(x), 2, x.shape[1] // 2, 6, 6).unbind(1), (6, 6), {}, [6]),
    'unflatten in two': (lambda m, x: x.unflatten(1, (2, -1)).unbind(1), (6, 6), {}, [6]),
    'view indexed': (lambda m, x: [x.view(len(x), 3, -1, 6, 6)[:, k] for k in range(3)], (4, 4, 4), {}, [4]),
    'every second': (lambda m, x: [x[:, ::2], x[:, 1::2]], (6, 6), {}, [6]),
    'every third': (lambda m, x: [x[:, k::3] for k in range(3)], (4, 4, 4), {}, [4]),
    'literal halves': (lambda m, x: _at(x, 6), (6, 6), {}, [6]),  # the first six stay
    'literal split': (lambda m, x: x.split(6, 1), (6, 6), {}, []),
    'literal split, uneven': (lambda m, x: x.split(8, 1), (8, 4), {}, []),
}  # fmt: skip


def _seeded(make, shape=MAP):
    def build():
        torch.manual_seed(0)
        return make(), torch.randn(shape)

    return build


KINDS = [
    *(
        (name, 21, _seeded(lambda c=cut, s=sizes, m=stored, n=name: Parts(c, s, _width(n, s), m)))
        for name, (cut, sizes, stored, _) in CUTS.items()
    ),
    ('shuffle units by two', 21, _seeded(lambda: around(*(Unit(2, 16) for _ in range(3)), width=16))),
    ('shuffle units by three', 21, _seeded(lambda: around(Unit(3, 36), width=36))),
    ('shuffle units by tensor_split', 21, _seeded(lambda: around(Unit(cut=lambda x: x.tensor_split(2, 1)), Unit()))),
    ('partial convolution by a width', 21, _seeded(lambda: around(Partial(False)))),
    ('partial convolution by an attribute', 21, _seeded(lambda: around(Partial(True)))),
    # The pieces lose like shares in all structures that are tried for other reasons.
    ('a third of seven behind layers', 21, _seeded(lambda: behind(Parts(CUTS['a third'][0], (2, 5), 7, {})))),
    ('halves of five behind layers', 21, _seeded(lambda: behind(Parts(CUTS['tensor_split'][0], (3, 2), 5, {})))),
    ('gated', 21, _seeded(lambda: nn.Sequential(nn.Linear(3, 8), Gated(), Gated(), nn.Linear(8, 4)), (2, 5, 3))),
]


def _width(name, sizes):
    return 12 if name.endswith('alone') else sum(sizes)
