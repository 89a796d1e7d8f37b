"""Layers as people write them: exact by shapes alone, and searched as far as they can be."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import dms_mm
from builders.exact import check_exact


class Written(nn.Module):
    """Rows that a mask chooses go through a layer of their own."""

    def __init__(self):
        super().__init__()
        self.stem, self.own, self.out = nn.Linear(6, 10), nn.Linear(10, 10), nn.Linear(10, 3)

    def forward(self, x):
        y = self.stem(x)
        chosen = x[..., 0] > 0
        z = y.clone()
        z[chosen] = self.own(y[chosen])
        return self.out(z)


def upsampled():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 12, 2, 2, groups=2), nn.ReLU(), nn.Conv2d(12, 3, 1))


def bounded():
    own = parametrizations.spectral_norm
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), own(nn.Linear(12, 16)), nn.ReLU(), nn.Linear(16, 3))


class Block(nn.Module):
    """Takes and gives a map and its size."""

    def __init__(self, width, act):
        super().__init__()
        self.one, self.act, self.two = nn.Conv2d(width, width, 3, padding=1), act, nn.Conv2d(width, width, 3, padding=1)

    def forward(self, given):
        x, height, width = given
        return x + self.two(self.act(self.one(x))), height, width


class Tuples(nn.Module):
    """Blocks of tuples, and one activation for them and the model."""

    def __init__(self):
        super().__init__()
        act = nn.SiLU()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(8, act) for _ in range(3)))
        self.act, self.out = act, nn.Conv2d(8, 2, 1)

    def forward(self, x):
        y, height, width = self.blocks((self.act(self.stem(x)), *x.shape[2:]))
        return self.out(F.interpolate(y, (height, width)))


class Soft(nn.Module):
    """Experts that all run, as products over three operands."""

    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.out = nn.Linear(5, 8), nn.Linear(8, 4), nn.Linear(8, 3)
        self.up, self.down = nn.Parameter(torch.randn(4, 8, 12)), nn.Parameter(torch.randn(4, 12, 8))

    def forward(self, x):
        x = self.stem(x)
        h = torch.einsum('btc,ech->bteh', x, self.up).relu()
        return self.out(torch.einsum('bteh,ehc,bte->btc', h, self.down, self.gate(x).softmax(-1)))


class Scaled(nn.Module):
    """A norm by root mean squares that stores its gain less one, by a name of its own."""

    def __init__(self, width):
        super().__init__()
        self.g, self.eps = nn.Parameter(torch.zeros(width)), 1e-6

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.g)


class Named(nn.Module):
    """A router whose layer is moved in every forward, and experts that are called by numbers in their names."""

    def __init__(self):
        super().__init__()
        self.stem, self.router, self.out = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 2)
        self.experts = nn.ModuleDict(
            {f'expert_{k}': nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8)) for k in range(3)}
        )

    def forward(self, x):
        x = self.stem(x).flatten(0, 1)
        self.router = self.router.to(x.dtype)
        best = self.router(x).softmax(-1).argmax(-1)
        y = torch.zeros_like(x)
        for k in best.unique():
            rows = (best == k).nonzero()[:, 0]
            y = y.index_add(0, rows, self.experts[f'expert_{k}'](x[rows]))
        return self.out(y)


LAYERS = {
    'written by a mask': (Written, (2, 5, 6), {'stem': 10}),
    'transposed in groups': (upsampled, (2, 3, 8, 8), {'0': 4, '1': 6}),
    'spectral norm': (bounded, (4, 6), {'0': 12, '2': 16}),
    'blocks of tuples': (
        Tuples, (2, 3, 6, 6), {'stem': 8, **{f'blocks.{k}.one': 8 for k in range(3)}, 'blocks/depth': 3},
    ),
    'soft experts': (Soft, (2, 5, 5), {'stem': 8, 'up': 12, 'down': 8}),
    'a gain of its own name': (
        lambda: nn.Sequential(nn.Linear(6, 12), Scaled(12), nn.Linear(12, 3)), (2, 5, 6), {'0': 12},
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', LAYERS)
def test_what_others_write_is_exact_by_its_rules(name):
    make, shape, units = LAYERS[name]
    torch.manual_seed(0)
    space = check_exact(make(), torch.randn(shape), verify='shapes')
    assert {unit.name: unit.size for unit in space.units.values()} == units
    assert not any(unit.kind.startswith('head') for unit in space.units.values())


def test_a_forward_may_move_a_layer_and_name_another_by_a_number():
    torch.manual_seed(0)
    model = Named()
    space = check_exact(model, torch.randn(2, 9, 6))
    # Those that the data chose.
    assert {'stem', 'experts.expert_1.0'} <= set(space.units) and not space.proof.unproved


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.head_dim = width // heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x, y):
        shape = (*x.shape[:-1], -1, self.head_dim)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer, x in ((self.q, y), (self.k, y), (self.v, x)))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_places_in_heads_that_stay_have_a_reason():
    class Softened(Attention):
        def forward(self, x, y):
            q = self.q(x).unflatten(-1, (-1, 4)).softmax(-1)
            return self.o((q * self.v(y).unflatten(-1, (-1, 4))).flatten(2))

    torch.manual_seed(0)
    space = dms_mm.make_searchable(Softened(16, 4), (torch.randn(2, 5, 16), torch.randn(2, 5, 16)))
    assert [unit.size for unit in space.units.values()] == [4]
    assert any('softmax' in reason for reason in space.blockers())
