"""The proof by numbers: whatever a rule says, no slim model differs from the masked one unseen."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import dms_mm
from builders.exact import check_exact
from builders.small import Net
from builders.wrong_rules import at, passes, turned, unmasked
from dms_mm.registry import OPERATORS
from dms_mm.slimming.chance import without_chance
from dms_mm.slimming.verify import verify_equivalence


class Between(nn.Module):
    """Channels of a stem, through ``function`` and as they are, to last layers; ``side`` is searched in any case."""

    def __init__(self, function, out):
        super().__init__()
        self.stem, self.out, self.function = nn.Conv2d(3, 8, 3, padding=1), copy.deepcopy(out), function
        self.also = nn.Conv2d(8, 2, 1)
        self.side = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1))

    def forward(self, x):
        y = self.stem(x).relu()
        return self.out(self.function(y)), self.also(y), self.side(x)


def normed(x):
    x = x.permute(0, 2, 3, 1)
    return functional.layer_norm(x, x.shape[-1:])


FAMILIES = [
    ('permute', turned, lambda x: x.permute(0, 2, 3, 1), nn.Linear(8, 2)),
    ('cat', turned, lambda x: torch.cat([x, x.sigmoid()], 1), nn.Conv2d(16, 2, 1)),
    ('split', turned, lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), nn.Conv2d(8, 2, 1)),
    ('cos', passes, lambda x: x.cos().sum(1, keepdim=True), nn.Conv2d(1, 2, 1)),
    ('sum', unmasked, lambda x: x.tanh().sum(1, keepdim=True), nn.Conv2d(1, 2, 1)),
    ('mm', at('out', unmasked), lambda x: x.mean((2, 3)), nn.Linear(8, 2, bias=False)),
    ('convolution', at('out', unmasked), torch.sigmoid, nn.Conv2d(8, 2, 1)),
    ('native_layer_norm', passes, normed, nn.Linear(8, 2)),
    ('flip', turned, lambda x: x.flip(1), nn.Conv2d(8, 2, 1)),
    ('im2col', turned, lambda x: functional.unfold(x, 3, padding=1).mean(-1), nn.Linear(72, 2)),
    ('index_add', turned, lambda x: x.index_add(0, torch.tensor([0]), x[:1].cos()), nn.Conv2d(8, 2, 1)),
]
X = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('operator, wrong, function, out', FAMILIES, ids=[f[0] for f in FAMILIES])
def test_a_rule_that_is_wrong_costs_search_space_alone(operator, wrong, function, out, monkeypatch):
    name = f'aten::{operator}'
    monkeypatch.setitem(OPERATORS.module_dict, name, wrong(OPERATORS.module_dict.get(name)))
    with pytest.raises((AssertionError, RuntimeError)):
        check_exact(Between(function, out), X, verify='shapes')
    space = check_exact(Between(function, out), X)
    assert [note for note in space.frozen if note.startswith('stem stays, because')]
    assert 'side.0' in space.units and not space.proof.unproved
    assert space.proof.structures == 5


def test_it_names_unit_mode_difference_and_operator(monkeypatch):
    monkeypatch.setitem(OPERATORS.module_dict, 'aten::cos', passes(None))
    space = dms_mm.make_searchable(Between(lambda x: x.cos().sum(1, keepdim=True), nn.Conv2d(1, 2, 1)), X)
    (note,) = space.frozen
    assert note.startswith('stem stays, because with 1 of its 8, in eval mode, masked and slim model differ by')
    assert "first in module 'out', Conv2d: aten::convolution" in note
    assert note in space.report() and 'by numbers' in ' '.join(space.blockers())


def test_it_costs_at_most_twenty_forwards_and_leaves_the_model_alone():
    model = Net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    calls = []
    handle = model.head.register_forward_hook(lambda *args: calls.append(1))
    seed = torch.random.get_rng_state()
    space = dms_mm.make_searchable(model, torch.zeros(2, 3, 16, 16), verify='shapes')
    settled = len(calls)
    space.detach()
    space = dms_mm.make_searchable(model, torch.zeros(2, 3, 16, 16))
    handle.remove()
    assert space.proof.structures == 9 and not space.proof.unproved
    assert len(calls) - 2 * settled <= 20
    assert torch.equal(torch.random.get_rng_state(), seed) and model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


class DrawsElsewhere(Net):
    """Masks in time by NumPy and a layer that drops out by Python's generator, while training."""

    def forward(self, x):
        if self.training:
            rows = torch.from_numpy(np.random.rand(x.shape[2]) < 0.5)
            x = torch.where(rows[:, None], x, x.new_zeros(())) * (0.5 + random.random())
        return super().forward(x)


def test_what_numpy_and_python_draw_is_no_difference():
    with without_chance():
        drawn = random.random(), np.random.rand()
    states = random.getstate(), np.random.get_state()[1].tolist()
    with without_chance():
        assert drawn == (random.random(), np.random.rand())
    assert states == (random.getstate(), np.random.get_state()[1].tolist())
    space = dms_mm.make_searchable(DrawsElsewhere(), torch.zeros(2, 3, 16, 16))
    assert not space.proof.unproved and space.proof.structures == 9
    assert not space.frozen and len(space.units) == 10


class ProjectedTable(nn.Module):
    """A module takes a view of a parameter, as DeBERTa's table of relative positions is."""

    def __init__(self):
        super().__init__()
        self.table, self.keys = nn.Parameter(torch.randn(5, 8)), nn.Linear(8, 6)
        self.make, self.out = nn.Linear(3, 6), nn.Linear(5, 2)

    def forward(self, x):
        return self.out(self.make(x) @ self.keys(self.table[:5]).t())


def test_a_view_of_a_parameter_that_a_module_takes_is_compared():
    space = dms_mm.make_searchable(ProjectedTable(), torch.randn(2, 3))
    assert not space.proof.unproved and 6 in {unit.size for unit in space.units.values()}


def test_what_is_not_compared_says_so(caplog):
    with torch.device('meta'):
        model = Net()
    space = dms_mm.make_searchable(model, torch.zeros(2, 3, 16, 16))
    assert 'not proved by numbers: the model is on the meta device' in space.report()
    assert 'not proved' in caplog.text
    space = dms_mm.make_searchable(Net(), torch.zeros(2, 3, 16, 16), verify='shapes')
    assert 'not proved by numbers: it was not asked for' in space.report()


def test_a_large_model_is_proved_on_a_smaller_example(monkeypatch):
    monkeypatch.setattr('dms_mm.slimming.proof.MOST_MACS', 1e6)
    space = dms_mm.make_searchable(Net(), torch.zeros(2, 3, 32, 32))
    assert '`verify_inputs`' in space.proof.unproved
    space = dms_mm.make_searchable(Net(), torch.zeros(2, 3, 32, 32), verify_inputs=torch.zeros(2, 3, 8, 8))
    assert not space.proof.unproved and space.proof.structures == 9


def test_options_of_verify():
    with pytest.raises(ValueError, match="did you mean 'numbers'"):
        dms_mm.make_searchable(Net(), torch.zeros(2, 3, 16, 16), verify='number')
    space = dms_mm.make_searchable(Net(), torch.zeros(2, 3, 16, 16), verify=False)
    assert len(space.units) == 10 and space.proof.unproved


class Silent(nn.Sequential):
    """``train`` that returns nothing, as backbones of OpenMMLab have it."""

    def train(self, mode=True):
        super().train(mode)


def test_a_model_whose_train_returns_nothing_is_proved():
    space = dms_mm.make_searchable(Silent(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)), torch.randn(2, 3, 8, 8))
    assert 'not proved' not in space.report() and not space.proof.unproved
    assert verify_equivalence(space, torch.randn(2, 3, 8, 8)) < 1e-8
