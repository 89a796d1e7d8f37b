"""Forwards that go one way or the other by their data: traced by what a real forward decided, cut where that stays."""

import contextlib

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

import dms_mm
from builders.exact import check_exact
from builders.kinds_state import KINDS, Experts, ListOfImages, Selects, Tokens, images, tokens
from dms_mm.slimming.followed import ChoiceError, choices
from dms_mm.slimming.twins import Twins, counted
from dms_mm.slimming.verify import verify_equivalence
from dms_mm.tracing import TraceError, call_forward, trace

MODELS = {name: make for name, kind, make in KINDS if kind == 16}
UNITS = {
    'nonzero': ['embed', 'hidden'],
    'mixture of experts': ['embed', 'attention.gate/expert', 'attention.experts.0.0'],
    'numbers in float tensors': ['stem', 'tail'],
    'a list of images': ['body.stem', 'body.tail'],
}


def made(name):
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    return model.eval(), inputs


@pytest.mark.parametrize('name', MODELS)
def test_masked_and_slim_agree(name):
    assert list(check_exact(*made(name)).units) == UNITS[name]


@pytest.mark.parametrize('name', MODELS)
def test_the_real_forward_is_one_of_a_copy(name):
    model, inputs = made(name)
    before = {key: (x, x.clone(), x._version) for key, x in model.state_dict(keep_vars=True).items()}
    state = torch.get_rng_state()
    trace(model, inputs)
    for key, x in model.state_dict(keep_vars=True).items():
        assert x is before[key][0] and torch.equal(x, before[key][1]) and x._version == before[key][2]
    assert torch.equal(state, torch.get_rng_state())


def test_a_mask_takes_the_positions_that_it_took_in_a_real_forward():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(12, 16), nn.Linear(16, 4)

        def forward(self, x):
            y = self.embed(x)
            chosen = y[x.sum(-1) > 0]  # a mask
            counts = [len(chosen), *(x.sum((1, 2)) > 0).tolist()]
            return self.head(chosen).sum(0, keepdim=True) / max(1, sum(counts))

    assert list(check_exact(Masked(), tokens()).units) == ['embed']


def test_what_is_fake_decides_nothing_on_the_meta_device():
    with pytest.raises(TraceError, match='DynamicOutputShape'):
        dms_mm.make_searchable(Selects().to('meta'), tokens().to('meta'))


def test_counts_are_per_image_of_a_list():
    torch.manual_seed(0)
    one, two = (
        dms_mm.make_searchable(ListOfImages().eval(), ([images(1, 6)[0]] * count,)).resources() for count in (1, 2)
    )
    assert one == two


def test_a_removed_block_decides_nothing():
    """Decisions are those of their module: without a block the next one still finds its own."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Experts()

        def forward(self, x):
            return x + self.inner(x)

    torch.manual_seed(0)
    model = Tokens(nn.Sequential(Block(), Block(), Block()))
    space = check_exact(model, tokens())
    assert {unit.kind for unit in space.units.values()} == {'channel', 'expert', 'depth'}


def test_a_structure_file_is_tried_on_models_that_decide_by_data(tmp_path):
    model, inputs = made('nonzero')
    space = dms_mm.make_searchable(model, inputs)
    space.set_keep({'embed': 5, 'hidden': 3})
    space.structure().save(tmp_path / 'structure.json')
    slim = dms_mm.build_slim(made('nonzero')[0], tmp_path / 'structure.json', example_inputs=inputs)
    slim.load_state_dict(space.slim().state_dict())
    assert torch.equal(slim(inputs), space.slim()(inputs))


class Ranks(nn.Module):
    """Takes the highest scores, in their order."""

    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores, dtype=torch.float64))

    def forward(self):
        value, place = self.scores.topk(2)
        return place.double() + value, torch.nonzero(self.scores > 0).double()


def test_choices_are_followed_where_they_are_equal_up_to_rounding_and_otherwise_refused():
    with choices(first := Ranks([3, 1, 3 + 1e-12]), None, 1e-9) as noted:
        place, _ = first()
    with choices(same := Ranks([3 + 1e-12, 1, 3]), noted, 1e-9):
        assert torch.allclose(same()[0], place, atol=1e-9, rtol=0)
    assert not torch.allclose(same()[0], place, atol=1e-9, rtol=0)
    for scores, why in (([3 + 1e-3, 1, 3], 'another order'), ([3, -1, 3 + 1e-12], 'positions')):
        with choices(other := Ranks(scores), noted, 1e-9), pytest.raises(ChoiceError, match=why):
            call_forward(other, ())


def test_zeros_too_large_to_be_looked_at_in_the_model_alone():
    class Filled(nn.Module):
        """Rows are written to a large result, as the data decide."""

        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 12, 1), nn.Conv2d(12, 2, 1)

        def forward(self, x):
            y = self.one(x)
            filled = torch.zeros(y.shape, dtype=y.dtype, device=y.device)
            rows = torch.where(x.mean((1, 2, 3)) > -9)[0]
            filled[rows] = y[rows]
            return self.two(filled).mean((2, 3))

    torch.manual_seed(0)
    space = dms_mm.make_searchable(Filled(), torch.randn(1, 1, 300, 300))
    assert space.units['one'].size == 12 and not space.frozen and not space.proof.unproved


def test_the_self_check_follows_choices_too(monkeypatch):
    class Tied(nn.Module):
        """Values of all positions in the order of scores that come in pairs, equal up to rounding."""

        def __init__(self):
            super().__init__()
            self.embed, self.score = nn.Linear(12, 32), nn.Linear(32, 1)
            self.where = nn.Parameter(torch.randn(20))

        def forward(self, x):
            y = self.embed(x).relu()
            scores = torch.cat([self.score(y)[..., 0], (y * self.score.weight).sum(-1) + self.score.bias], 1).flatten()
            best = scores.sort(descending=True).indices
            return self.where[best % 20] * torch.nonzero(scores > scores.min() - 1).sum()

    torch.manual_seed(0)
    space = dms_mm.make_searchable(Tied(), tokens())
    assert not space.proof.unproved
    for seed in range(4):
        assert verify_equivalence(space, tokens(), seed=seed) < 1e-8
    monkeypatch.setattr(Twins, '_choices', lambda *_: contextlib.nullcontext())
    with pytest.raises(RuntimeError, match='embed'):
        for seed in range(4):
            verify_equivalence(space, tokens(), seed=seed)


@pytest.mark.parametrize('kernel', ['eager', 'grouped_mm'])
def test_experts_of_a_language_model_are_searched(kernel):
    """The grouped kernel takes rows of a multiple of 16 bytes: widths go in steps then."""
    config = transformers.MixtralConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, vocab_size=50,
        intermediate_size=24, num_local_experts=3, num_experts_per_tok=2, use_cache=False,
        attn_implementation='eager', experts_implementation=kernel,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.MixtralForCausalLM(config).eval()
    step = 1 if kernel == 'eager' else 8
    space = dms_mm.make_searchable(model, {'input_ids': torch.arange(24).view(2, 12)}, step=step)
    sizes = {name: unit.size for name, unit in space.units.items()}
    assert not space.frozen and not space.proof.unproved
    assert sizes['model.embed_tokens'] == 16 // step and sizes['model.layers.0.mlp.experts'] == 24 // step


@pytest.mark.parametrize('classes', [4, -1])
def test_one_hot_asks_the_same_with_data_and_without(classes):
    """With data it reads the least and the greatest class first: what the forward read next was taken for those."""

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
            self.embed, self.head = nn.Linear(12, 6), nn.Linear(6, 2)

        def forward(self, x):
            place = torch.arange(x.shape[1]).fmod(4) + (x.sum() > 1e9).long()
            y = self.embed(x)
            load = functional.one_hot(place, classes).sum(0)
            for index in load.nonzero()[:, 0]:
                if index != 0:  # one goes without an expert
                    y = y + self.experts[index](y) * load[index]
            return self.head(y)

    space = check_exact(Counts().eval(), tokens())
    experts = sum(cost.module.startswith('experts') for cost in space.plan.trace.costs)
    assert experts == 3 and 'embed' in space.units
    space.set_keep({name: unit.size for name, unit in space.units.items()})
    with counted() as counter, torch.no_grad():
        space.slim().double()(tokens().double())
    assert counter.get_total_flops() == 2 * len(tokens()) * space.supernet['macs']
