"""A model, what it holds, its classes and its process are afterwards what they were, fresh and after an earlier
forward; and both are searched alike."""

import copy
import io
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

import dms_mm
from builders import kinds_state
from builders.exact import check_exact
from builders.kinds_state import KINDS, BiasCache, Body, KeepsLast, Tokens, images, tokens
from builders.pictures import picture
from dms_mm.tracing import TraceError, call_forward, trace

# The whole of a model that computes at all on fake tensors.
MODELS = {name: make for name, kind, make in KINDS if kind != 16}
# A weight that is read through a mask can't be merged with others in place.
EXACT = [name for name in MODELS if 'merged' not in name]


def surroundings():
    """The file of the models and its classes; caches of functions are looked at by what they return."""
    classes = [x for x in vars(kinds_state).values() if isinstance(x, type) and x.__module__ == kinds_state.__name__]
    return [(name, picture(vars(kinds_state)[name])) for name in ('GLOBAL', 'STATE')] + [
        (cls.__name__, key, picture(value))
        for cls in classes
        for key, value in vars(cls).items()
        if not key.startswith('__') and not callable(value) and not isinstance(value, property)
    ]


def process():
    return [
        random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist(), torch.is_grad_enabled(),
        torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic, torch.backends.mha.get_fastpath_enabled(), torch.is_autocast_enabled('cpu'),
        torch.are_deterministic_algorithms_enabled(), torch.backends.mkldnn.is_available(), torch.get_num_threads(),
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def clean():
    """What these models keep on classes and in globals is of one test."""
    precision, benchmark = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    yield
    kinds_state.GLOBAL.clear()
    kinds_state.ClassKeeps.tables.clear()
    kinds_state.ClassKeeps.calls = 0
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.benchmark = benchmark


def made(name, used):
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    model.eval()
    model.get_submodule('stem' if hasattr(model, 'stem') else '').training = True  # each has a flag of its own
    if used:
        with torch.no_grad():
            call_forward(model, inputs)
    return model, inputs


@pytest.mark.parametrize('used', [False, True], ids=['fresh', 'used'])
@pytest.mark.parametrize('name', MODELS)
def test_a_trace_leaves_everything_as_it_was(name, used):
    model, inputs = made(name, used)
    before = picture(model), surroundings(), process()
    trace(model, inputs)
    assert (picture(model), surroundings(), process()) == before
    with torch.no_grad():
        call_forward(model, inputs)  # nothing fake is met


@pytest.mark.parametrize('used', [False, True], ids=['fresh', 'used'])
@pytest.mark.parametrize('name', EXACT)
def test_making_a_model_searchable_and_taking_the_masks_off_again_leaves_everything_as_it_was(name, used):
    model, inputs = made(name, used)
    classes = {base for module in model.modules() for base in type(module).__mro__}

    def torch_classes():
        # Python itself notes the slots of a class at the first copy of an instance.
        return {cls: {k: v for k, v in vars(cls).items() if k != '__slotnames__'} for cls in classes}

    before = picture(model), surroundings(), process(), torch_classes()
    space = dms_mm.make_searchable(model, inputs)
    assert surroundings() == before[1] and process() == before[2]
    space.detach()
    assert picture(model) == before[0] and torch_classes() == before[3]


@pytest.mark.parametrize('used', [False, True], ids=['fresh', 'used'])
@pytest.mark.parametrize('name', EXACT)
def test_searched_models_and_what_comes_out_of_them_can_be_copied_and_saved(name, used):
    model, inputs = made(name, used)
    space = dms_mm.make_searchable(model, inputs)
    search = dms_mm.Search(space, target={'macs': 0.6}, total_steps=4)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    model.train()
    for _ in range(2):
        loss = call_forward(model, inputs).square().mean() + search.resource_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        search.step()
    space.set_keep({unit.name: unit.bounds()[0] for unit in space.units.values()})
    # With a graph in whatever a model keeps, and after a forward in eval mode, that fills other caches.
    call_forward(model, inputs)
    model.eval()
    with torch.no_grad():
        want = call_forward(model, inputs)
    slim = space.slim()
    with torch.no_grad():
        assert torch.allclose(call_forward(slim, inputs), want, atol=1e-5)
    if name not in ('ClosureKeeps', 'spectral norm'):  # Python and torch refuse to pickle these
        torch.save(slim, io.BytesIO())
        pickle.dumps(slim)
    copy.deepcopy(slim)
    space.detach()
    with torch.no_grad():
        call_forward(model, inputs)
    if name != 'KeepsLast':  # its history has a graph
        copy.deepcopy(model)


@pytest.mark.parametrize('name', EXACT)
def test_a_model_that_has_run_has_the_units_of_a_fresh_one(name):
    fresh, used = (
        {u.name: (u.kind, u.size) for u in check_exact(*made(name, used)).units.values()} for used in (False, True)
    )
    assert used == fresh


class Fails(KeepsLast):
    def forward(self, x):
        super().forward(x)
        random.random()
        raise ArithmeticError('half way')


def test_a_forward_that_fails_leaves_everything_as_it_was():
    model = Body(Fails())
    before = picture(model), process()
    with pytest.raises(TraceError, match='half way'):
        dms_mm.make_searchable(model, images())
    assert (picture(model), process()) == before


def test_weights_that_a_mode_merges_are_not_touched():
    name = 'low-rank update merged on eval()'
    for training in (False, True):
        model, inputs = made(name, used=True)
        model.train(training)
        weight = model.attention.weight.detach().clone()
        dms_mm.make_searchable(model, inputs, verify='shapes')
        assert model.attention.merged is not training and torch.equal(model.attention._parameters['weight'], weight)


@pytest.mark.parametrize('keep', ['dict', 'attribute', 'switched'])
def test_slim_models_look_their_biases_up_anew(keep):
    """The heads are fewer: what was looked up for all of them fits no more."""
    torch.manual_seed(0)
    model = Tokens(BiasCache(keep=keep)).eval()
    space = dms_mm.make_searchable(model, tokens())
    space.set_keep({'attention.qkv/head': torch.tensor([False, True, True])})
    with torch.no_grad():
        want = model(tokens())
        slim = space.slim()
        assert torch.allclose(slim(tokens()), want, atol=1e-6)
        assert torch.allclose(slim.train().eval()(tokens()), want, atol=1e-6)


def test_a_function_that_stands_for_the_forward_keeps_its_own_state():
    kept = []

    def forward(model, x):
        kept.append(model(x))
        return kept[-1]

    space = dms_mm.make_searchable(Body(nn.Identity()), images(), forward_fn=forward)
    assert kept == [] and space.units


def test_a_list_of_parameters_beside_them_is_cut_with_them():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.rand(8) + 0.5)
            self.all = [self.weight]
            self.pair = {'w': (self.weight, 2)}

        def forward(self, x):
            return x * self.all[0].view(-1, 1, 1) * self.pair['w'][0].view(-1, 1, 1)

    space = check_exact(Body(Twice()), images())
    assert space.units['stem'].size == 8
    space.set_keep({'stem': 3})
    slim = space.slim()
    assert slim.middle.all[0] is slim.middle.weight is slim.middle.pair['w'][0]


class Filled(nn.Module):
    """A mask that is filled place by place, as windows are numbered."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        mask = x.new_zeros(1, 1, 6, 6)
        rows = [mask[:, :, k] for k in range(6)]
        for k in range(36):
            mask[:, :, k // 6, k % 6] = k % 2
        return self.out(self.conv(x) * mask * sum(row.mean() for row in rows))


def test_a_table_that_is_written_often_is_told_of_its_views_once_each():
    traced = trace(Filled(), torch.zeros(2, 3, 6, 6))
    writes = [call for call in traced.calls[0] if call.clobbers]
    assert len(writes) >= 36 and max(len(call.clobbers) for call in writes) <= 50
