"""Experts of a mixture: one that is masked is as if it were not there, and the slim model routes as before."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import dms_mm
from builders import experts as made
from builders.exact import check_exact
from builders.kinds_state import Experts, Tokens, tokens

MIXTURES = {
    'a list, asked by number': lambda: Experts(12, 5, 8),
    'a list, those that are hit': made.Listed,
    'stacked': made.Stacked,
    'stacked, by scores': made.ByScores,
    'stacked, by sigmoids': made.BySigmoids,
    'stacked, a switch': made.OneOnly,
    'stacked, the best': made.ByBest,
}
IDS = {'input_ids': torch.arange(24).view(2, 12)}


def mixture(name, seed=0):
    torch.manual_seed(seed)
    return Tokens(MIXTURES[name]()).eval()


def expert_unit(space):
    return next(unit for unit in space.units.values() if unit.kind == 'expert')


@pytest.mark.parametrize('name', MIXTURES)
def test_masked_and_slim_route_alike(name):
    space = check_exact(mixture(name), tokens())
    count = 1 if name in ('stacked, a switch', 'stacked, the best') else 2
    assert (expert_unit(space).size, expert_unit(space).min_keep) == (5, count)
    assert [(u.kind, u.size) for u in space.units.values() if u is not expert_unit(space)] == [
        ('channel', 12), ('channel', 8),
    ]  # fmt: skip
    assert not space.frozen and not space.proof.unproved


@pytest.mark.parametrize('kernel', ['eager', 'batched_mm', 'grouped_mm', None])
@pytest.mark.parametrize('name', ['Mixtral', 'Qwen3-MoE'])
def test_language_models_lose_experts_and_their_widths(name, kernel):
    torch.manual_seed(0)
    model = made.language_model(name, **({'experts_implementation': kernel} if kernel else {}))
    space = dms_mm.make_searchable(model, IDS)
    unit = expert_unit(space)
    step = 1 if kernel in ('eager', 'batched_mm') else 4  # a grouped kernel takes rows of a multiple of 16 bytes
    widths = {u.size for u in space.units.values() if u.kind == 'channel'}
    assert (unit.size, unit.min_keep) == (5, 2) and widths == {16 // step, 24 // step}
    assert not space.frozen and not space.proof.unproved
    space.set_keep({unit.name: 3})
    block = space.slim().model.layers[0].mlp
    assert block.gate.weight.shape[0] == block.experts.gate_up_proj.shape[0] == block.experts.down_proj.shape[0] == 3
    assert block.gate.num_experts == block.experts.num_experts == 3


def softened(space, seed=3):
    """Soft masks on a space in float64; the leaf of the experts'."""
    space.model.double()
    space.bank.double()
    generator = torch.Generator().manual_seed(seed)
    count = len(space.bank.mask)
    space.bank.mask.copy_(0.2 + 0.8 * torch.rand(count, generator=generator, dtype=torch.float64))
    space.bank.cut = [True] * len(space.units)
    return {name: space.mask(name) for name in space.units}


def by_hand(model, x, stream, hidden, share):
    """The mixture ``a list, asked by number`` with masked activations; shares by what they would be without."""
    y = model.embed(x)
    flat = (y * stream).reshape(-1, 12)
    raw = model.attention.gate(flat).exp() * share
    weight, chosen = (raw / raw.sum(-1, keepdim=True)).topk(2, -1)
    out = torch.zeros_like(flat)
    for k, expert in enumerate(model.attention.experts):
        token, slot = torch.where(chosen == k)
        inner = expert[1](expert[0](flat[token])) * hidden
        out = out.index_add(0, token, expert[2](inner) * weight[token, slot, None])
    return model.head(((y + out.view_as(y)) * stream).mean(1))


def test_soft_masks_and_their_gradients_are_those_of_masked_shares():
    plain = mixture('a list, asked by number').double()
    space = dms_mm.make_searchable(mixture('a list, asked by number'), tokens())
    masks = softened(space)
    leaves = {name: mask.detach().clone().requires_grad_() for name, mask in masks.items()}
    by_kind = {unit.kind + str(unit.size): leaves[name] for name, unit in space.units.items()}
    x = tokens().double()
    expected = by_hand(plain, x, by_kind['channel12'], by_kind['channel8'], by_kind['expert5'])
    out = space.model(x)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    expected.square().sum().backward()
    out.square().sum().backward()
    grad = space.bank.take_grad()
    for name, unit in space.units.items():
        want = leaves[name].grad
        assert float(want.abs().max()) > 0
        torch.testing.assert_close(grad[unit.start : unit.start + unit.size], want, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    'name', ['stacked', 'stacked, by scores', 'stacked, by sigmoids', 'stacked, a switch', 'a list, those that are hit']
)
def test_gradients_are_differences(name):
    space = dms_mm.make_searchable(mixture(name), tokens())
    softened(space)
    unit, x, step = expert_unit(space), tokens().double(), 1e-6
    space.model(x).square().sum().backward()
    grad = space.bank.take_grad()
    assert float(grad[unit.start : unit.start + unit.size].abs().max()) > 0
    for k in range(unit.start, unit.start + unit.size):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                space.bank.mask[k] += sign * step
                values.append(float(space.model(x).square().sum()))
                space.bank.mask[k] -= sign * step
        assert abs((values[0] - values[1]) / (2 * step) - float(grad[k])) < 1e-5 * max(1, abs(float(grad[k])))


class Shifted(TorchFunctionMode):
    """Adds to the scores that are made by one weight."""

    def __init__(self, weight, by):
        super().__init__()
        self.weight, self.by = weight, by

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        return out + self.by if func is functional.linear and args[1] is self.weight else out


@pytest.mark.parametrize(
    'kind', [made.Stacked, made.ByScores, made.BySigmoids, made.OneOnly, made.ByBest, made.AllRun, made.LooksUp]
)
def test_masks_weigh_what_is_chosen_once(kind):
    torch.manual_seed(0)
    space = dms_mm.make_searchable(Tokens(kind()).eval(), tokens())
    plain = copy.deepcopy(space).detach().double()
    softened(space)
    unit, x = expert_unit(space), tokens().double()
    whole = torch.ones_like(space.bank.mask)
    whole[unit.start : unit.start + unit.size] = space.bank.mask[unit.start : unit.start + unit.size]
    space.bank.mask.copy_(whole)
    with Shifted(plain.attention.router.weight, space.mask(unit.name).log()):
        want = plain(x)
    assert float((want - plain(x)).abs().max()) > 1e-3
    torch.testing.assert_close(space.model(x), want, rtol=1e-10, atol=1e-12)


class Returns(made.Stacked):
    """Numbers of the chosen are an output."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        value, index = self.route(x)
        if self.how == 'values':
            return value
        y = self.up[index].sum((-1, -2)) * value
        return y, {'rows': [index] if self.how == 'as they are' else [index.view(-1)[:4]]}


@pytest.mark.parametrize('how', ['as they are', 'some of them', 'values'])
def test_classes_stay_where_their_numbers_leave_the_model_or_pick_nothing(how):
    """A classifier that returns its best classes must not number them anew."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), Returns(how)).eval()
    space = dms_mm.make_searchable(model, tokens())
    assert [unit.kind for unit in space.units.values()] == ['channel']
    space.set_keep({name: 7 for name in space.units})
    have, want = space.slim()(tokens()), space.model(tokens())
    torch.testing.assert_close(have, want)


def test_what_is_dead_is_never_chosen_and_has_a_finite_gradient():
    space = dms_mm.make_searchable(mixture('stacked'), tokens())
    seen = []
    space.model.attention.router.register_forward_hook(lambda module, args, out: seen.append(out[1]))
    space.set_keep({expert_unit(space).name: torch.tensor([False, True, False, True, False])})
    space.model(tokens()).square().sum().backward()
    assert set(seen[0].unique().tolist()) == {1, 3}
    assert bool(space.bank.take_grad().isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in space.model.parameters())


def test_a_structure_file_takes_experts_out_of_their_list(tmp_path):
    space = dms_mm.make_searchable(mixture('a list, asked by number'), tokens())
    space.set_keep({expert_unit(space).name: torch.tensor([False, True, True, False, True])})
    space.structure().save(tmp_path / 'structure.json')
    fresh = mixture('a list, asked by number', seed=1)
    slim = dms_mm.build_slim(fresh, tmp_path / 'structure.json', example_inputs=tokens())
    assert [*slim.attention.experts._modules] == ['0', '1', '2']
    slim.load_state_dict(space.slim().state_dict())
    assert torch.equal(slim(tokens()), space.slim()(tokens()))
    torch.testing.assert_close(slim(tokens()), space.model(tokens()))


def test_a_copy_and_a_detached_model():
    space = dms_mm.make_searchable(mixture('stacked'), tokens())
    before = mixture('stacked')(tokens())
    space.set_keep({expert_unit(space).name: torch.tensor([False, True, True, False, True])})
    masked = space.model(tokens())
    assert torch.equal(copy.deepcopy(space).model(tokens()), masked)
    model = space.detach()
    assert 'forward' not in vars(model.attention.router)
    assert torch.equal(model(tokens()), before)


class Uses(made.Stacked):
    """Numbers of the chosen in another way than to pick by them."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.table = nn.Parameter(torch.randn(5))

    def route(self, x):
        shares = functional.softmax(functional.linear(x, self.router.weight), -1)
        value, index = shares[:, : 3 if self.how == 'half of them' else 5].topk(2, -1)
        if self.how == 'computes':
            index = (index // 2) * 2
        elif self.how == 'weighs':
            value = value * (1 + index)
        elif self.how == 'counts':
            value = value * shares.shape[-1]
        elif self.how == 'only weighs':
            return shares[:, :2], torch.zeros_like(index)
        elif self.how == 'a fixed table':
            value = value * torch.arange(5.0)[index]
        elif self.how == 'the least':
            value, index = shares.topk(2, -1, largest=False)
        return value, index


HOW = ['computes', 'weighs', 'counts', 'only weighs', 'a fixed table', 'the least', 'half of them']


@pytest.mark.parametrize('how', HOW)
def test_experts_stay_where_their_numbers_mean_something_else(how):
    torch.manual_seed(0)
    space = check_exact(Tokens(Uses(how)).eval(), tokens())
    assert 'expert' not in {unit.kind for unit in space.units.values()}


def test_a_number_on_a_layer_that_equals_the_count_is_left_alone():
    torch.manual_seed(0)
    model = mixture('a list, asked by number')
    model.attention.gate.scale = 5
    space = check_exact(model, tokens())
    space.set_keep({expert_unit(space).name: 3})
    slim = space.slim()
    assert (slim.attention.gate.out_features, slim.attention.gate.scale) == (3, 5)


class Special(made.Listed):
    """One of many experts is treated in a way of its own, which few examples show."""

    def __init__(self):
        super().__init__(experts=12, count=1)

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        weight, index = self.router(flat)
        out = torch.zeros_like(flat)
        for k, expert in enumerate(self.experts):
            token, slot = torch.where(index == k)
            y = expert(flat[token]) * weight[token, slot, None]
            out.index_add_(0, token, y * 2 if k == 3 else y)
        return out.view_as(x)


@pytest.mark.parametrize('seed', range(4))
def test_an_expert_of_a_special_kind_is_found_by_the_proof(seed):
    torch.manual_seed(seed)
    space = dms_mm.make_searchable(Tokens(Special()).eval(), tokens()[:1, :2])
    assert 'expert' not in {unit.kind for unit in space.units.values()}


class Unlike(Experts):
    """Experts of two sizes."""

    def __init__(self):
        super().__init__(12, 4, 8)
        self.experts[2] = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 12))


def test_unlike_experts_have_widths_of_their_own():
    torch.manual_seed(0)
    space = check_exact(Tokens(Unlike()).eval(), tokens())
    assert sorted(unit.size for unit in space.units.values()) == [6, 8, 8, 8, 12]
    assert {unit.kind for unit in space.units.values()} == {'channel'}


class WithOne(Experts):
    """The share of the first expert, whichever are chosen, is the mixture's."""

    def forward(self, x):
        return super().forward(x) * self.gate(x).softmax(-1)[..., :1]


def test_one_that_is_asked_for_stays_and_the_others_need_not():
    torch.manual_seed(0)
    space = check_exact(Tokens(WithOne(12, 5, 8)).eval(), tokens())
    unit = expert_unit(space)
    assert (unit.size, unit.min_keep) == (4, 1) and [paths[0][-1] for paths in unit.blocks] == ['1', '2', '3', '4']


class InParts(nn.Module):
    """Each expert is an entry of two lists."""

    def __init__(self):
        super().__init__()
        self.router = made.Router(12, 4, 2)
        self.up = nn.ModuleList(nn.Linear(12, 8) for _ in range(4))
        self.down = nn.ModuleList(nn.Linear(8, 12) for _ in range(4))

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        weight, index = self.router(flat)
        out = torch.zeros_like(flat)
        for k in range(self.router.num_experts):
            token, slot = torch.where(index == k)
            y = self.down[k](self.up[k](flat[token]).relu()) * weight[token, slot, None]
            out.index_add_(0, token, y)
        return out.view_as(x)


def test_experts_in_several_lists_leave_all_of_them():
    torch.manual_seed(0)
    space = check_exact(Tokens(InParts()).eval(), tokens())
    space.set_keep({expert_unit(space).name: 3})
    slim = space.slim()
    assert len(slim.attention.up) == len(slim.attention.down) == slim.attention.router.num_experts == 3
