"""Several budgets on the way of one search, and structures of budgets that it was not asked for."""

import copy

import pytest
import torch

import dms_mm
from builders.grids import check_on_grid
from builders.small import Net, searchable, train
from dms_mm.algorithms.schedule import Schedule

TARGETS = {'macs': [0.6, 0.4, 0.25]}


def searched(target=None, steps=20, **options):
    space = searchable(verify=False, **options.pop('space', {}))
    return space, dms_mm.Search(space, TARGETS if target is None else target, steps, **options)


def state_of(space):
    return copy.deepcopy(space.bank.state_dict()), space.bank.mask.clone()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip([*a[0].values(), a[1]], [*b[0].values(), b[1]]))


@pytest.mark.parametrize('epochs', [None, 20])
@pytest.mark.parametrize('hold', [None, 0.0, 0.1])
def test_the_target_falls_from_budget_to_budget_and_stays_at_each(epochs, hold):
    schedule = Schedule(400, 0.1, 0.4, 0.2, epochs, (0.5, 0.2, 0.3), hold)
    done = [schedule.done(s) for s in range(401)]
    assert done == sorted(done) and done[0] <= 0.5 and done[-1] == 3
    if epochs is None:
        stays = [sum(abs(d - k) < 1e-9 for d in done) / 400 for k in (1, 2)]
        assert stays == pytest.approx([0.1 if hold is None else hold] * 2, abs=0.006)
        falls = [sum(k < d < k + 1 for d in done) / 400 for k in range(3)]
        assert falls == pytest.approx([0.2, 0.08, 0.12], abs=0.006)
    passed = [schedule.passed(s) for s in range(401)]
    assert passed == sorted(passed) and passed[0] == 0 and passed[-1] == 2
    # Not before the target has come to it.
    assert all(done[max(0, passed.index(k) - 1)] >= k - 0.1 for k in (1, 2)) or hold == 0.0 or epochs


def test_every_budget_is_met_and_the_search_goes_on_as_if_nothing_was_written():
    space, search = searched()
    seen = []
    search.on_budget = lambda number, structure: seen.append((number, structure, search.goal('macs')))
    train(space, search, 20)
    other, again = searched()
    again._pass_budgets = lambda: None
    train(other, again, 20)
    ours, theirs = state_of(space)[0], state_of(other)[0]
    assert all(torch.equal(ours[k], v) for k, v in theirs.items() if not k.startswith('passed'))
    last = search.finalize()
    full = space.supernet['macs']
    assert [number for number, *_ in seen] == [0, 1] and list(search.passed) == ['0.60', '0.40']
    for (_, structure, goal), share, later in zip(seen, (0.6, 0.4), search.passed.values()):
        assert structure == later and goal <= share * full * (1 + 1e-9)
        assert 0.99 * share <= structure.resources['macs'] / full <= share
        dms_mm.build_slim(Net(), structure)
    assert 0.99 * 0.25 <= last.resources['macs'] / full <= 0.25


@pytest.mark.parametrize('selector', ['topk', 'mes', 'sns', 'topk-minmax', 'get'])
def test_every_selector_passes_its_budgets_on_the_grid(selector):
    units = {'*conv1': dict(round_to=8), 'layer1.*.conv1': dict(tie=True)}
    rule = 'balanced' if selector == 'topk' else 'paper'
    space, search = searched(steps=6, space=dict(units=units, selector=selector), rule=rule)
    train(space, search, 6)
    settings = {'layer1.*.conv1': dict(tie=True, round_to=8, min=1, max=48)}
    settings |= {'*conv1': dict(round_to=8, min=1, max=80), '*': dict(min=0, max=64)}
    structures = [*search.passed.values(), search.retarget({'macs': 0.5}), search.finalize()]
    for structure, share in zip(structures, (0.6, 0.4, 0.5, 0.25)):
        assert structure.resources['macs'] <= share * space.supernet['macs']
        kept = [structure.units[n] for n in space.units]
        assert all(structure.kept(n) % 8 == 0 for n in space.units if n.endswith('conv1'))
        assert len({structure.kept(f'layer1.{k}.conv1') for k in range(3)}) == 1 and kept
    check_on_grid(space, settings, space.bank.keep)


@pytest.mark.parametrize('at', [5, 9])
def test_killed_and_resumed_all_structures_are_the_same(at):
    space, search = searched(steps=20)
    train(space, search, 20)
    begun, first = searched(steps=20)
    train(begun, first, at)
    assert len(first.passed) == (1 if at == 9 else 0)
    torch.manual_seed(7)
    resumed, second = searched(steps=20)
    resumed.model.load_state_dict(begun.model.state_dict())
    second.load_state_dict(first.state_dict())
    train(resumed, second, 20 - at, begin=at)
    assert search.passed == second.passed and len(second.passed) == 2
    assert search.finalize() == second.finalize()


def test_budgets_of_another_search_are_not_taken_for_its_own():
    """A checkpoint of one list goes on by another: nothing of the old budgets is given a new name."""
    space, search = searched()
    train(space, search, 15)
    assert list(search.passed) == ['0.60', '0.40']
    again = dms_mm.Search(space, {'macs': [0.5, 0.4, 0.2]}, 20)
    full = space.supernet['macs']
    assert list(again.passed) == ['0.40']
    train(space, again, 1)
    assert all(s.resources['macs'] <= float(name) * full for name, s in again.passed.items())


def test_two_resources_fall_together_or_are_refused():
    space, search = searched({'macs': [0.7, 0.4], 'params': [0.6, 0.3]}, 12)
    train(space, search, 12)
    found = [*search.passed.values(), search.finalize()]
    for structure, macs, params in zip(found, (0.7, 0.4), (0.6, 0.3)):
        used = structure.resources['macs'] / space.supernet['macs'] / macs
        other = structure.resources['params'] / space.supernet['params'] / params
        assert max(used, other) <= 1 and max(used, other) > 0.97
    for target, message in (
        ({'macs': [0.5, 0.3], 'params': [0.5, 0.4, 0.3]}, 'must be of one length, not macs 2, params 3'),
        ({'macs': []}, 'of one length, not macs 0'),
        ({'macs': [0.3, 0.5]}, 'must fall'),
        ({'macs': [0.5, 0.5]}, 'must fall'),
        ({'macs': [0.5, 1e-5]}, 'out of reach'),
    ):
        with pytest.raises(ValueError, match=message):
            searched(target)
    with pytest.raises(ValueError, match='more than all steps'):
        searched(hold=0.4)
    _, mixed = searched({'macs': [0.7, 0.4], 'params': 0.8}, 4)
    assert [b['params'] for b in mixed.budgets] == [0.8 * mixed.space.supernet['params']] * 2
    assert searched({'macs': [0.302, 0.298]}, 4)[1].names == ['0.302', '0.298']


@pytest.mark.parametrize('when', ['begun', 'passed', 'ended', 'finalized'])
def test_retargeting_meets_the_target_and_leaves_the_search_alone(when):
    space, search = searched(steps=12)
    train(space, search, {'begun': 2, 'passed': 9}.get(when, 12))
    if when == 'finalized':
        search.finalize()
    before = state_of(space)
    for target in ({'macs': 0.9}, {'macs': 0.5}, {'macs': 0.25}, {'macs': 0.05}, {'params': 0.3}):
        structure = search.retarget(target)
        ((name, share),) = target.items()
        assert 0.99 * share <= structure.resources[name] / space.supernet[name] <= share
        assert same(before, state_of(space))
    with pytest.raises(ValueError, match='out of reach'):
        search.retarget({'macs': 1e-6})


def test_retargeting_to_a_budget_that_was_passed_is_near_what_was_found_there():
    space, search = searched()
    train(space, search, 20)
    for share, structure in zip((0.6, 0.4), search.passed.values()):
        again = search.retarget({'macs': share})
        widths = [n for n, u in space.units.items() if u.kind == 'channel' and not structure.is_gone(n)]
        ways = [abs(again.kept(n) - structure.kept(n)) / space.units[n].size for n in widths if not again.is_gone(n)]
        assert sum(ways) / len(ways) < 0.03
