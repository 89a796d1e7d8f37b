"""How masks reach what modules use: on every network of the kinds, and through whatever reads, copies or moves them."""

from __future__ import annotations

import copy
import importlib
import io
import pickle

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.nn.utils import prune, remove_weight_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

import dms_mm
from builders.exact import check_exact
from builders.kinds_folds import KINDS, AttentionBlock, Keeps, Mixed, OffsetNorm, Recurrent, Residual
from dms_mm.mutators.fold import raw_parameters
from dms_mm.mutators.stores import FoldedTensors

# What is searched, beside the depth of every network of kind 7.
FOUND = {
    **dict.fromkeys(
        ('gain minus one, with a bias', 'exponential gain', 'gain by a sigmoid', 'gain by a softplus'),
        {'channel', 'head', 'head_dim', 'depth'},
    ),
    'gain minus one on queries and keys': {'channel', 'head', 'head_dim', 'depth'},
    'gain minus one behind a branch': {'channel', 'head', 'head_dim', 'depth'},
    'every kind of mask': {'channel', 'head', 'head_dim', 'depth'},
    'an LSTM': {'channel'},
    'a GRU': {'channel'},
    'an RNN': {'channel'},
}


@pytest.mark.parametrize(('name', 'kind', 'make'), KINDS, ids=[name for name, _, _ in KINDS])
def test_masked_and_slim_agree(name, kind, make):
    model, x = make()
    space = check_exact(model, (x,))
    kinds = {unit.kind for unit in space.units.values()}
    assert kinds >= FOUND.get(name, {'depth'} if kind == 7 else set())
    assert all(p.isfinite().all() for p in space.slim().parameters())


@pytest.fixture
def space():
    """A space whose masks are soft and differ, in float64."""
    torch.manual_seed(0)
    space = dms_mm.make_searchable(Mixed(), X[:2].float())
    space.model.double()
    space.bank.double()
    soften(space, 0.3)
    return space


X = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def soften(space, ratio):
    with torch.no_grad():
        space.bank.ratio.fill_(ratio)
        space.bank.importance.copy_(torch.rand(len(space.bank.importance)))
    space.bank.refresh()


def halve(space):
    space.set_keep({u.name: max(u.min_keep, u.size // 2) for u in space.units.values()})


def gradients(space, out):
    """Of masks and weights."""
    space.model.zero_grad()
    space.bank.take_grad()
    out.square().sum().backward()
    return space.bank.take_grad(), {k: p.grad for k, p in space.model.named_parameters() if p.grad is not None}


def test_replicas_see_masks_and_their_gradients_arrive(space, monkeypatch):
    replicate = importlib.import_module('torch.nn.parallel.replicate')
    monkeypatch.setattr(  # the copies of all tensors on every device, as NCCL makes them
        replicate,
        '_broadcast_coalesced_reshape',
        lambda xs, devices, detach=False: [[x * 1 for x in xs]] * len(devices),
    )
    for harden in (lambda: None, lambda: halve(space)):
        harden()
        out = space.model(X)
        masks, weights = gradients(space, out)
        replicas = replicate.replicate(space.model, [0, 1])
        for replica in replicas:
            for module, twin in zip(space.model.modules(), replica.modules()):
                assert type(module) is type(twin) and module is not twin
        again = torch.cat([replica(x) for replica, x in zip(replicas, X.split(2))])
        torch.testing.assert_close(again, out)
        masks_again, weights_again = gradients(space, again)
        assert (masks != 0).float().mean() > 0.5
        torch.testing.assert_close(masks_again, masks)
        torch.testing.assert_close(weights_again, weights)


def test_masks_go_to_where_weights_are(space):
    weight = space.model.head._parameters['weight']
    assert weight.device.type == 'cpu'
    assert space.model.to('meta')(X.to('meta')).device.type == 'meta'
    assert space.bank.mask.device.type == 'cpu'


def test_copies_show_the_structure_that_is_searched(space):
    model = space.model.eval()
    with torch.no_grad():
        before = model(X)  # torch doesn't copy what weight_norm sets otherwise
        twin, average = copy.deepcopy(model), AveragedModel(model)
        halve(space)
        assert not torch.allclose(model(X), before)
        for made in (twin, average, copy.deepcopy(twin)):
            torch.testing.assert_close(made(X), model(X), rtol=0, atol=0)
        for p in model.parameters():
            p.mul_(1.5)
        assert not torch.allclose(twin(X), model(X))
        average.update_parameters(model)
        torch.testing.assert_close(average(X), model(X), rtol=0, atol=0)
        assert average.state_dict().keys() == {'n_averaged', *(f'module.{key}' for key in model.state_dict())}


def test_a_copy_of_a_space_is_a_space_of_its_own(space):
    holder = {'model': space.model.eval(), 'space': space}
    with torch.no_grad():  # torch doesn't copy what weight_norm sets otherwise
        before = space.model(X)
    copies = [copy.deepcopy(holder)['space'], pickle.loads(pickle.dumps(space))]
    space.model(X).sum().backward()
    for twin in (*copies, copy.deepcopy(space)):
        space.bank.take_grad()
        assert twin.bank is not space.bank and twin.model is not space.model
        torch.testing.assert_close(twin.model(X), before)
        halve(twin)
        torch.testing.assert_close(space.model(X), before)
        torch.testing.assert_close(twin.slim().eval()(X), twin.model(X))
        masks, _ = gradients(twin, twin.model(X))
        assert masks.any() and not space.bank.take_grad().any()


def test_a_pickled_model_computes_what_it_did(space):
    model = space.model.eval()
    out = model(X)
    out.sum().backward()
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    for twin in (pickle.loads(pickle.dumps(model)), torch.load(saved, weights_only=False)):
        torch.testing.assert_close(twin(X), out, rtol=0, atol=0)
        assert twin.state_dict().keys() == model.state_dict().keys()


def test_masks_in_inference_mode(space):
    halve(space)
    slim = space.slim().eval()
    with torch.inference_mode():
        torch.testing.assert_close(space.model.eval()(X), slim(X))
        assert space.model.head.weight.is_inference()


def test_functional_calls_see_masks_and_leave_weights(space):
    model = space.model.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    out = model(X)
    _, wanted = gradients(space, out)
    given = {k: v.detach().clone() for k, v in model.named_parameters()}
    torch.testing.assert_close(torch.func.functional_call(model, dict(given), (X,)), out)
    found = torch.func.grad(lambda p: torch.func.functional_call(model, p, (X,)).square().sum())(dict(given))
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(type(p) is nn.Parameter and p.is_leaf for p in model.parameters())


def test_a_product_that_is_put_back_is_what_it_was_made_of(space):
    head = space.model.head
    stored = dict(head.named_parameters())['weight']
    product = head.weight
    assert product is not stored
    head._parameters['weight'] = product
    assert dict(head.named_parameters())['weight'] is stored
    with raw_parameters():
        assert head.weight is stored
    product = head.weight.detach()
    with torch.no_grad():
        changed = head.weight.mul_(2)
    head._parameters['weight'] = changed
    torch.testing.assert_close(head._parameters.get('weight'), 2 * product)


def test_what_goes_over_all_tensors_sees_them_as_they_are(space):
    model = space.model
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for move in (model.float, model.double, model.share_memory, lambda: model.to(torch.float64)):
        move()
        assert all(p.is_leaf for p in model.parameters())
    model.load_state_dict({k: v + 1 for k, v in before.items()})
    assert {id(p) for p in optimizer.param_groups[0]['params']} == {id(p) for p in model.parameters()}
    model.load_state_dict(before, assign=True)
    torch.testing.assert_close(model.state_dict(), before)
    model.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())
    model.requires_grad_(True)
    model.zero_grad()


def test_what_would_keep_masks_in_weights_fails(space):
    head, name = space.model.head, type(space.model.head).__name__
    with pytest.raises(RuntimeError, match=r'detach\(\)'):
        del head.weight
    with pytest.raises(RuntimeError, match=r'detach\(\)'):
        weight_norm(head)
    with pytest.raises(RuntimeError, match='cannot be scripted'):
        torch.jit.script(head)
    with pytest.raises(RuntimeError, match='cannot be scripted'):
        torch.jit.script(space.model)
    assert type(head).__name__ == name and isinstance(head._parameters, FoldedTensors)


def test_other_layers_of_the_class_are_left_alone(space):
    for layer in (nn.Linear(6, 6), nn.Linear(6, 6)):
        assert 'weight' not in vars(nn.Linear) and type(layer._parameters) is dict
        prune.remove(prune.l1_unstructured(layer, 'weight', amount=0.5), 'weight')
        remove_weight_norm(weight_norm(layer))
        torch.jit.script(layer)
        del layer.weight
    other = dms_mm.make_searchable(Mixed(), X[:2].float())
    before = other.model.eval()(X.float())
    halve(space)
    torch.testing.assert_close(other.model(X.float()), before, rtol=0, atol=0)
    out = space.model.eval()(X)
    other.detach()
    torch.testing.assert_close(space.model(X), out, rtol=0, atol=0)


def state_of(model):
    """Every attribute of every module: of dicts the class, keys and values, else the value itself."""
    found = {}
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            if key == '_flat_weight_refs':  # weak references, made anew in every forward
                continue
            contents = [(k, id(v)) for k, v in value.items()] if isinstance(value, dict) else None
            listed = [id(v) for v in value] if isinstance(value, list) else None
            found[path, key] = type(value), contents, listed
    return found


def test_detach_leaves_modules_as_they_were():
    torch.manual_seed(0)
    model = Mixed()
    model.tail = nn.Sequential(*(Residual(nn.Linear(16, 20), nn.ReLU(), nn.Linear(20, 16)) for _ in range(2)))
    before = state_of(model)
    space = dms_mm.make_searchable(model, X[:2].float())
    masked = state_of(model)
    assert masked != before
    halve(space)
    model(X.float()).sum().backward()
    copy.deepcopy(model)
    space.detach()
    assert state_of(model) == before


def compiled_net():
    torch.manual_seed(0)
    blocks = [
        Residual(nn.Linear(16, 20), nn.ReLU(), last) for last in (nn.Linear(20, 16), weight_norm(nn.Linear(20, 16)))
    ]
    return nn.Sequential(
        nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), *blocks, AttentionBlock(OffsetNorm), nn.Linear(16, 3)
    )


def test_a_compiled_model_follows_its_masks():
    space = dms_mm.make_searchable(compiled_net(), X[:2].float())
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(space.model, fullgraph=True, backend='aot_eager')
    for ratio in (0.0, 0.1, 0.2, 0.3):
        soften(space, ratio)
        masks, weights = gradients(space, space.model(X.float()))
        masks_again, weights_again = gradients(space, compiled(X.float()))
        assert (masks != 0).any()
        torch.testing.assert_close(masks_again, masks)
        torch.testing.assert_close(weights_again, weights)
    halve(space)
    torch.testing.assert_close(compiled(X.float()), space.model(X.float()))
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 1


def test_a_slim_model_keeps_nothing_of_an_earlier_forward():
    model = Keeps()
    space = dms_mm.make_searchable(model, torch.zeros(2, 6))
    model(torch.randn(3, 6))
    twin = copy.deepcopy(space).model
    assert twin.last.is_leaf and twin.seen[0]['last'] is twin.last
    torch.testing.assert_close(twin.last, model.last.detach())
    halve(space)
    slim = space.slim()
    assert slim.last is None and not slim.seen
    assert model.last.grad_fn is not None and slim(torch.randn(3, 6)).shape == (3, 3)


@pytest.mark.parametrize('layer', [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_keep_no_products(layer):
    torch.manual_seed(0)
    model = Recurrent(layer)
    space = dms_mm.make_searchable(model, X[:2].float())
    halve(space)
    for twin in (model, copy.deepcopy(copy.deepcopy(model)), pickle.loads(pickle.dumps(model)), model.double().float()):
        out = twin(X.float())
        out.sum().backward()
        torch.testing.assert_close(space.slim()(X.float()), out)
        assert not space.bank.take_grad()[space.bank.keep].eq(0).all() or twin is not model


def test_a_gain_minus_one_is_masked_as_it_is_used():
    space = dms_mm.make_searchable(
        nn.Sequential(nn.Linear(6, 16), AttentionBlock(OffsetNorm), nn.Linear(16, 3)), X.float()
    )
    norm = space.model[1].attn.q_norm
    with torch.no_grad():
        norm._parameters.get('weight').uniform_(-0.5, 0.5)
    stored = norm._parameters.get('weight')
    torch.testing.assert_close(norm.weight, stored, rtol=0, atol=0)
    name = next(u.name for u in space.units.values() if u.kind == 'head_dim')
    space.set_keep({name: torch.tensor([True, False, True, False])})
    torch.testing.assert_close(1 + norm.weight, (1 + stored) * torch.tensor([1.0, 0.0, 1.0, 0.0]), rtol=0, atol=0)
