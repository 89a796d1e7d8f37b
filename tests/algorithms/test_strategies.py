"""Searches that step no ratios: each meets its target, leaves the model alone, and prefers what its score prefers."""

import copy

import pytest
import torch

from builders.small import X, Y, searchable
from builders.strategies import SPACES, assert_same, loss, share_of, state_of, task_of
from dms_mm.algorithms.cost import Cost, count_samples
from dms_mm.algorithms.strategies import (
    Budget,
    Evolution,
    Pruning,
    RandomSearch,
    SupernetJudge,
    Task,
    ZiCo,
    random_keep,
)
from dms_mm.algorithms.strategies.importance import taylor_scores, weight_scores
from dms_mm.algorithms.strategies.structures import counts_of


@pytest.fixture(scope='module', params=SPACES)
def space(request):
    return SPACES[request.param]()


JUDGES = [dict(type='SupernetJudge', recalibrate=2, batches=1), 'ZiCo', dict(type='ZenScore', repeats=2, batch=4)]
SMALL = dict(population=4, parents=2, evaluations=8)
RATIOS = [('uniform', False), ('uniform', True), ('global', False), ('global', True), ('depth', False)]
STRATEGIES = [
    *(Pruning(name, *ratios, batches=2) for name in ('l1', 'taylor') for ratios in RATIOS),
    Pruning('l2'),
    Pruning('index'),
    *(Evolution(judge, **SMALL) for judge in JUDGES),
    RandomSearch(JUDGES[0], evaluations=4, order='taylor', batches=2),
]


def title(strategy):
    parts = [type(strategy).__name__, getattr(strategy, 'importance', ''), getattr(strategy, 'ratios', '')]
    return '-'.join(filter(None, [*parts, 'depth' if getattr(strategy, 'depth', False) else '']))


@pytest.mark.parametrize('strategy', STRATEGIES, ids=title)
def test_target_is_met_and_the_model_is_left_as_it_was(space, strategy):
    budget, before = Budget(), state_of(space)
    keep = strategy.search(space, {'macs': 0.3}, task_of(), budget)
    assert_same(before, state_of(space))
    assert keep.dtype == torch.bool and keep.shape == space.bank.keep.shape
    assert 0.99 * 0.3 <= share_of(space, keep) <= 0.3
    assert budget.cost.macs > 0 or isinstance(strategy, Pruning)
    assert torch.equal(keep, strategy.search(space, {'macs': 0.3}, task_of(), Budget()))


@pytest.mark.parametrize('target', [{'macs': 0.12}, {'macs': 0.9}, {'params': 0.2}, {'macs': 0.5, 'params': 0.15}])
def test_random_structures_meet_any_target_and_are_spread(space, target):
    generator, before = torch.Generator().manual_seed(0), state_of(space)
    drawn = [random_keep(space, target, generator) for _ in range(8)]
    assert_same(before, state_of(space))
    for keep in drawn:
        assert all(share_of(space, keep, name) <= value for name, value in target.items())
        assert any(share_of(space, keep, name) >= 0.99 * value for name, value in target.items())
    counts = torch.stack([counts_of(space, keep) for keep in drawn])
    depth = torch.tensor([u.kind == 'depth' for u in space.units.values()])
    assert (counts.double().std(0)[~depth] > 0).float().mean() > 0.8
    assert 0.9 in target.values() or len(counts[:, depth].unique(dim=0)) > 2
    again = torch.Generator().manual_seed(0)
    assert torch.equal(drawn[0], random_keep(space, target, again))


def test_pruning_removes_what_was_made_small():
    space = searchable()
    unit, gone = space.units['layer1.1.conv1'], torch.arange(5, 48, 3)
    block = space.model.layer1[1]
    with torch.no_grad():
        stored = dict(block.named_parameters())
        for name in ('conv1.weight', 'bn1.weight', 'bn1.bias'):
            stored[name][gone] *= 1e-4
    scores = {'l1': weight_scores(space, 1), 'l2': weight_scores(space, 2)}
    scores['taylor'] = taylor_scores(space, task_of(), Budget(), 2)
    for name, score in scores.items():
        order = score[unit.start : unit.start + unit.size].argsort()[: len(gone)]
        assert set(order.tolist()) == set(gone.tolist()), name
    for ratios in ('uniform', 'global'):
        keep = Pruning('l1', ratios).search(space, {'macs': 0.4})
        kept = keep[unit.start : unit.start + unit.size]
        assert not kept[gone].any() or kept.sum() > 48 - len(gone)


def test_l2_scores_are_norms_over_all_tensors_of_a_unit():
    space = searchable()
    unit, block = space.units['layer1.0.conv1'], space.model.layer1[0]
    stored = {k: v.detach().double() for k, v in block.named_parameters()}
    expected = stored['conv1.weight'].square().sum((1, 2, 3)) + stored['conv2.weight'].square().sum((0, 2, 3))
    expected = (expected + stored['bn1.weight'].square() + stored['bn1.bias'].square()).sqrt()
    found = weight_scores(space, 2)[unit.start : unit.start + unit.size].double()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_taylor_scores_are_squares_of_the_gradients_of_masks():
    space = searchable()
    space.model.eval()
    expected = torch.zeros_like(space.bank.mask)
    for batch in task_of().batches:
        loss(space.model, batch).backward()
        expected += (space.bank.mask * space.bank.take_grad()).square() / 2
    budget = Budget()
    torch.testing.assert_close(taylor_scores(space, task_of(), budget, 2), expected)
    assert budget.cost.macs == 3 * 16 * space.supernet['macs'] and budget.cost.samples == 16


def test_depth_alone_leaves_widths_but_for_what_the_last_block_leaves_over(space):
    keep = Pruning('l1', 'depth').search(space, {'macs': 0.5})
    counts, units = counts_of(space, keep), list(space.units.values())
    assert any(u.kind == 'depth' and counts[u.index] < u.size for u in units)
    # One block fewer, with full widths, would be below the target.
    whole = keep.clone()
    for unit in units:
        if unit.kind != 'depth':
            whole[unit.start : unit.start + unit.size] = True
    assert share_of(space, whole) > 0.5
    smaller = []
    for unit in units:
        for k in range(unit.start, unit.start + unit.size) if unit.kind == 'depth' else ():
            if whole[k]:
                trial = whole.clone()
                trial[k] = False
                smaller.append(share_of(space, trial))
    assert min(smaller) <= 0.5


def test_global_ratios_spare_units_whose_scores_are_alike():
    space = searchable()
    a, b = space.units['layer1.0.conv1'], space.units['layer1.1.conv1']
    with torch.no_grad():
        for layer, spread in ((space.model.layer1[0], 0.0), (space.model.layer1[1], 3.0)):
            for conv, dim in ((layer.conv1, 0), (layer.conv2, 1)):
                weight = dict(conv.named_parameters())['weight']
                shape = [-1 if d == dim else 1 for d in range(4)]
                weight.copy_(torch.exp(-spread * torch.linspace(0, 1, 48)).view(shape).expand_as(weight))
    counts = counts_of(space, Pruning('l1', 'global').search(space, {'macs': 0.5}))
    assert counts[a.index] > 2 * counts[b.index]


# -- budget and resume
def test_samples_of_batches_of_any_make():
    x = torch.zeros(5, 3, 4, 4)
    batches = [
        x,
        (x, x[:, 0, 0, 0]),
        [x, x],
        dict(inputs=x, data_samples=[1]),
        dict(inputs=list(x)),
        (list(x), [{}] * 5),
    ]
    batches += [(dict(pixels=x), None), dict(inputs=dict(weak=x))]
    assert [count_samples(batch) for batch in batches] == [5] * len(batches)


def test_no_structure_is_tried_beyond_the_budget():
    space, one = searchable(), Budget()
    keep = random_keep(space, {'macs': 0.3}, torch.Generator().manual_seed(0))
    SupernetJudge(2, 1).score(space, keep, task_of(), one)
    budget = Budget(cost=Cost(macs=5.0), limit=5 + 4.5 * one.cost.macs, log=print)
    RandomSearch(SupernetJudge(2, 1), evaluations=64).search(space, {'macs': 0.3}, task_of(), budget)
    assert 5 * 0.98 <= budget.cost.macs / one.cost.macs <= 5 * 1.02


def test_a_search_that_goes_on_ends_as_one_that_was_never_interrupted(tmp_path):
    space, states = searchable(), []
    evolution = Evolution(ZiCo(), population=4, parents=2, evaluations=16)
    whole = Budget(save=lambda state: states.append(copy.deepcopy(state)))
    keep = evolution.search(space, {'macs': 0.3}, task_of(), whole)
    torch.save(states[1], tmp_path / 'state.pth')
    state = torch.load(tmp_path / 'state.pth', weights_only=True)
    again = Budget(cost=Cost.restore(state['cost']), state=state)
    assert torch.equal(evolution.search(space, {'macs': 0.3}, task_of(), again), keep)
    assert again.cost.macs == whole.cost.macs and len(states) == 4


def test_wrong_settings_are_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'taylor'"):
        Pruning('tailor')
    with pytest.raises(ValueError, match="did you mean 'global'"):
        Pruning(ratios='globl')
    with pytest.raises(ValueError, match="did you mean 'ZiCo'"):
        Evolution('zico')
    with pytest.raises(ValueError, match='population'):
        Evolution(population=8, evaluations=4)
    with pytest.raises(ValueError, match='needs 4 batches as `held_out`, there are 0'):
        Evolution().search(searchable(), {'macs': 0.3}, Task(batches=[(X, Y)] * 8, loss=loss))
