"""Memory: of what is predicted the slim model holds as much, whatever is removed; caches are what a model fills."""

import copy
from functools import cache

import pytest
import torch
import torchvision
from torch import nn

import dms_mm
from builders.held import held
from builders.small import Net, searchable, train
from builders.structures import harden_randomly


class Attends(nn.Module):
    """Blocks of attention and an MLP, with layer scales and an activation that writes over its input."""

    def __init__(self, width=32, heads=4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, stride=4)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(3))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class _Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1)
        x = x + self.proj(y)
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


MODELS = {
    'residual': Net,
    'attention': Attends,
    'expanding': lambda: torchvision.models.mobilenet_v2(num_classes=10),
}
SIZES = {'residual': 16, 'attention': 32, 'expanding': 32}
KINDS = {
    'weights': dict(type='WeightBytes'),
    'inference': dict(type='ActivationBytes', batch=4),
    'training': dict(type='ActivationBytes', batch=4, training=True),
}


@cache
def _space(name):
    torch.manual_seed(0)
    x = torch.zeros(2, 3, SIZES[name], SIZES[name])
    return dms_mm.make_searchable(MODELS[name](), x, resources=KINDS, verify='shapes')


@pytest.mark.parametrize('name', MODELS)
def test_a_slim_model_holds_what_is_predicted(name):
    space = copy.deepcopy(_space(name))
    x = torch.randn(4, 3, SIZES[name], SIZES[name])
    for seed in range(3):
        if seed:
            harden_randomly(space, seed)
        slim, counts = space.slim(), space.resources()
        state = [*slim.parameters(), *slim.buffers()]
        assert counts['weights'] == sum(t.numel() * t.element_size() for t in state)
        gone = space.structure().removed
        assert counts['inference'] == pytest.approx(held(slim, x, training=False), rel=0.02), (seed, gone)
        assert counts['training'] == pytest.approx(held(slim, x, training=True), rel=0.1), (seed, gone)


def test_memory_grows_with_every_unit_and_with_the_batch():
    space = copy.deepcopy(_space('residual'))
    bank, generator = space.bank, torch.Generator().manual_seed(0)
    for name in KINDS:
        resource = space.counters[name]
        for _ in range(20):
            share = torch.rand(len(bank.sizes), generator=generator, dtype=torch.float64)
            more = share + (1 - share) * torch.rand(len(bank.sizes), generator=generator, dtype=torch.float64)
            low, high = (float(resource.continuous(bank, 1 - s)) for s in (share, more))
            assert 0 < low <= high
    for batch in (1, 3, 64):
        space.add_resource(f'at {batch}', dict(type='ActivationBytes', batch=batch))
        space.add_resource(f'half at {batch}', dict(type='ActivationBytes', batch=batch, dtype='float16'))
    one = space.resources()
    assert all(one[f'at {b}'] == b * one['at 1'] == 2 * one[f'half at {b}'] for b in (1, 3, 64))
    space.add_resource('all', dict(type='Memory', batch=4, training=True, states=2))
    parameters = sum(p.numel() for p in space.model.parameters())
    assert space.supernet['all'] == one['training'] + one['weights'] + 8 * parameters


class Filled(nn.Module):
    """Writes into a tensor that it makes for the batch."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        out = torch.zeros(x.shape[0], 5, *x.shape[2:])
        out[:, :4] = self.b(self.a(x))
        return out + torch.ones(len(x), 1, 1, 1)


def test_tensors_that_are_made_for_a_batch_grow_with_it():
    space = dms_mm.make_searchable(Filled(), torch.zeros(2, 3, 16, 16), verify='shapes')
    for batch in (1, 64):
        space.add_resource(f'of {batch}', dict(type='ActivationBytes', batch=batch))
    found = space.resources()
    assert found['of 64'] == 64 * found['of 1'] > 64 * 5 * 256 * 4


def test_gradients_of_a_peak_are_its_slopes():
    space = copy.deepcopy(_space('attention'))
    bank = space.bank
    for name in KINDS:
        value = space.counters[name].surface(bank)
        ratio = torch.linspace(0.1, 0.4, len(bank.sizes), dtype=torch.float64)
        slope = torch.autograd.grad(value(ratio.requires_grad_()), ratio)[0]
        for u in range(len(bank.sizes)):
            step = torch.zeros_like(ratio)
            step[u] = 1e-7
            change = float(value(ratio + step) - value(ratio - step)) / 2e-7
            assert float(slope[u]) == pytest.approx(change, rel=1e-4, abs=1e-2) and slope[u] <= 0


@pytest.mark.parametrize('rule', ['balanced', 'paper'])
def test_a_search_meets_budgets_of_memory(rule):
    space = searchable(resources=dict(weights=dict(type='WeightBytes', dtype='float16'), **KINDS_OF_SEARCH))
    target = dict(inference='40kB', training=0.5, weights='150kB', memory='80%')
    search = dms_mm.Search(space, target, 6, rule=rule)
    train(space, search, 6)
    counts = search.finalize().resources
    taken = {name: counts[name] / goal for name, goal in search.targets.items()}
    assert 0.99 <= max(taken.values()) <= 1, taken


KINDS_OF_SEARCH = {name: {**KINDS[name], 'batch': 1} for name in ('inference', 'training')}


def test_a_cache_is_what_a_language_model_fills():
    transformers = pytest.importorskip('transformers')
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=8,
        num_key_value_heads=2, use_cache=False, attn_implementation='sdpa',
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    cache_of = dict(type='CacheBytes', length=24, batch=3, dtype='float32')
    ids = torch.zeros(2, 8, dtype=torch.long)
    space = dms_mm.make_searchable(model, {'input_ids': ids}, resources=dict(cache=cache_of), verify='shapes')
    assert space.supernet['cache'] == 2 * 3 * 2 * 8 * 24 * 3 * 4
    seen = set()
    for seed in range(4):
        harden_randomly(space, seed)
        filled = transformers.DynamicCache()
        with torch.no_grad():
            space.slim().eval()(input_ids=torch.zeros(3, 24, dtype=torch.long), use_cache=True, past_key_values=filled)
        held_in = [t for layer in filled.layers if layer.keys is not None for t in (layer.keys, layer.values)]
        assert space.resources()['cache'] == sum(t.numel() * t.element_size() for t in held_in)
        seen.add(space.resources()['cache'])
    assert len(seen) > 1


def test_wrong_options_of_memory_are_named():
    for options, message in (
        (dict(type='ActivationBytes', batch=0), 'batch=0 of the memory must be'),
        (dict(type='WeightBytes', dtype='flaot16'), "dtype='flaot16' is none of torch"),
        (dict(type='CacheBytes'), 'no attention is asked for by name'),
    ):
        with pytest.raises(ValueError, match=message):
            searchable(resources=dict(own=options))
    space = copy.deepcopy(_space('residual'))
    with pytest.raises(ValueError, match="resource 'inference' is of the whole model"):
        dms_mm.Search(space, {'layer1/inference': 0.5}, 4)
    with pytest.raises(ValueError, match='takes B, kB, KB, MB'):
        dms_mm.Search(space, {'inference': '3ms'}, 4)
    assert dms_mm.Search(space, {'layer1/weights': 0.5}, 4).targets
