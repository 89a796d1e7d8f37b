"""Rules and wholes of a user's own: registered, they let a model's channels through."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

import dms_mm
from dms_mm.registry import OPERATORS, WHOLES
from dms_mm.slimming.verify import verify_equivalence
from dms_mm.tracing.rules import rule

INPUT = torch.zeros(2, 3, 8, 8)


@torch.library.custom_op('dms_test::twice', mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@twice.register_fake
def _(x):
    return torch.empty_like(x)


class Twice(nn.Module):
    def forward(self, x):
        return twice(x)


def net(middle):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), middle, nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(64, 2)).eval()


def twice_rule(ledger, out, x):
    ledger.put(out, ledger.entries(x), None, ledger.makers(x))


@pytest.fixture
def registries():
    before = [dict(r.module_dict) for r in (OPERATORS, WHOLES)]
    yield
    for registry, entries in zip((OPERATORS, WHOLES), before):
        registry.module_dict.clear()
        registry.module_dict.update(entries)


def test_an_operator_without_a_rule_freezes_and_is_named():
    space = dms_mm.make_searchable(net(Twice()), INPUT)
    assert list(space.units) == ['2']
    assert 'no rule for operator dms_test::twice' in space.report()


@pytest.mark.parametrize('how', ['decorator', 'registry'])
def test_a_rule_of_ones_own_frees_them(registries, how):
    if how == 'decorator':
        rule('dms_test::twice')(twice_rule)
    else:
        OPERATORS.register_module(name='dms_test::twice', module=twice_rule)
    space = dms_mm.make_searchable(net(Twice()), INPUT)
    assert list(space.units) == ['0', '2']
    verify_equivalence(space, INPUT)


def test_a_rule_of_ones_own_replaces_ours_and_ours_never_replace_it(registries):
    seen = []

    def relu(ledger, out, x):
        seen.append(ledger.where())
        ledger.freeze(ledger.entries(x), 'tried')

    rule('relu')(relu)
    ours = OPERATORS.module_dict['aten::view']
    rule('relu')(ours)  # as on import of our module after the user's
    with pytest.raises(KeyError, match='aten::view is already registered'):
        rule('view')(ours)
    space = dms_mm.make_searchable(net(nn.ReLU()), INPUT)
    assert '1' in seen and list(space.units) == ['2']


class Gain(nn.Module):
    """Scales every channel, with an operator inside that nothing knows."""

    def __init__(self, channels):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return twice(x) * self.gain.view(1, -1, 1, 1)


def test_a_whole_of_ones_own_lets_channels_through(registries):
    @WHOLES.register_module(name='gain')
    @dataclass(frozen=True)
    class Spec:
        dim: int

        @classmethod
        def recognise(cls, module, x, entries, rest):
            return cls(1) if isinstance(module, Gain) and entries else None

        def trace(self, ledger, path, module, x, out):
            ledger.use([module.gain])
            for ids in ledger.along(x, self.dim):
                ledger.elements.union(ids, ledger.along(module.gain, 0)[0])
            ledger.put(out, ledger.entries(x), None, ledger.makers(x))

    space = dms_mm.make_searchable(net(Gain(8)), INPUT)
    assert list(space.units) == ['0', '2'] and list(space.plan.trace.atomic) == ['1']
    verify_equivalence(space, INPUT)
    space.set_keep({'0': 3})
    assert space.slim()[1].gain.shape == (3,)
