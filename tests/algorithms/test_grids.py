"""Whatever finds a structure keeps to the bounds, multiples and ties of its space, and within the target."""

import pytest
import torch

import dms_mm
from builders.grids import check_on_grid, random_settings, with_grid
from builders.small import searchable, train
from dms_mm.algorithms.budget import floor_counts, uniform_keep
from dms_mm.algorithms.candidates import candidates_of
from dms_mm.algorithms.passing import largest
from dms_mm.algorithms.strategies import Evolution, Pruning, RandomSearch, random_keep
from dms_mm.algorithms.strategies.judges import Judge

TARGET = {'macs': 0.3}


class Widest(Judge):
    """Likes wide stems; costs nothing."""

    def score(self, space, keep, task, budget):
        return float(keep[: space.units['stem.0'].size].sum())


def check_tight(space, keep):
    """Within the target, and no width could go one step up: nothing is left that the grid could use."""
    counter, limit = space.counters['macs'], 0.3 * space.supernet['macs']
    bank = space.bank
    counts = torch.zeros_like(bank.size).index_add(0, bank.segment, keep.long())
    assert counter.count(keep, bank) <= limit
    for unit in space.units.values():
        if unit.kind == 'channel' and counts[unit.index] < bank.grid.high[unit.index]:
            more = bank.grid.moved(counts, unit.index, 1)
            gone = counter.count_by_numbers(more, keep) == counter.count_by_numbers(counts, keep)
            assert gone or counter.count_by_numbers(more, keep) > limit, unit.name


def structures(space, seed):
    generator = torch.Generator().manual_seed(seed)
    yield uniform_keep(space, TARGET)
    yield uniform_keep(space, TARGET, scale_depth=True)
    for _ in range(3):
        yield random_keep(space, TARGET, generator)
    yield Evolution(Widest(), population=4, evaluations=10, parents=2).search(space, TARGET)
    yield RandomSearch(Widest(), evaluations=3).search(space, TARGET)
    for ratios in ('uniform', 'global', 'depth'):
        yield Pruning('l2', ratios, depth=True).search(space, TARGET)


@pytest.mark.parametrize('seed', range(4))
def test_whatever_needs_no_training(seed):
    settings = random_settings(seed)
    space = with_grid(seed, verify=False)
    check_on_grid(space, settings, space.bank.hard_keep())
    for keep in structures(space, seed):
        check_on_grid(space, settings, keep)
        check_tight(space, keep)
    low = space.bank.hard_keep(floor_counts(space, {'macs': space.supernet['macs']}, 0.3))
    check_on_grid(space, settings, low)


@pytest.mark.parametrize('how', ['balanced', 'bayes', 'paper', 'get', 'mes', 'sns', 'topk-minmax'])
@pytest.mark.parametrize('turn', range(2))
def test_searches(turn, how):
    seed = 2 * len(how) + turn  # spaces of their own
    settings = random_settings(seed)
    selector = how if how in ('get', 'mes', 'sns', 'topk-minmax') else 'topk'
    rule = how if selector == 'topk' else dict(type='paper', lr=0.05)
    space = with_grid(seed, verify=False, selector=selector)
    search = dms_mm.Search(space, TARGET, 6, rule=rule)
    ties = space.bank.grid

    def present():
        check_on_grid(space, settings, space.bank.hard_keep())
        if space.bank.trains == 'ratio':
            assert torch.equal(space.bank.ratio, ties.tied(space.bank.ratio)) or ties.ties
            assert all(len(set(space.bank.ratio[m].tolist())) == 1 for m in ties.members)

    train(space, search, 6, each=present)
    for keep in candidates_of(search):
        check_on_grid(space, settings, keep)
    keep = search.fitted()
    check_tight(space, keep)
    structure = search.finalize()
    check_on_grid(space, settings, space.bank.keep)
    assert torch.equal(space.bank.keep, keep)
    assert structure.resources['macs'] <= 0.3 * space.supernet['macs']


def test_a_tie_moves_by_what_its_units_tell_together():
    """The mean over the tie's MACs of the signals, so that a tie is one unit of three times the width."""
    settings = {'layer1.*.conv1': dict(tie='inner')}
    space = searchable(units=settings, verify=False)
    search = dms_mm.Search(space, TARGET, 8, warmup=0.0)
    train(space, search, 8)
    names = [f'layer1.{k}.conv1' for k in range(3)]
    masks = [space.mask(n).sort().values for n in names]
    assert all(torch.equal(masks[0], m) for m in masks[1:])  # as many, and as soft
    orders = [space.mask(n).argsort().tolist() for n in names]
    assert orders[0] != orders[1] != orders[2]


def test_what_is_off_the_grid_is_refused():
    units = {'stem.0': dict(min=8, max=24, round_to=8), 'layer1.*.conv1': dict(tie=True, max=40)}
    space = searchable(units=units, verify=False)
    for keep, message in (
        ({'stem.0': 12}, 'keeps 8 to 24 of its elements in steps of 8, not 12'),
        ({'stem.0': 32}, 'not 32'),
        ({'stem.0': torch.arange(32) < 9}, 'not 9'),
        ({'layer1.0.conv1': 8}, "tie 'layer1.*.conv1': its 3 units keep equal counts"),
        ({'layer1.0.conv1': 8, 'layer1.1.conv1': 8, 'layer1.2.conv1': 9}, 'layer1.2.conv1 9'),
    ):
        with pytest.raises(ValueError, match=message.replace('*', r'\*')):
            space.set_keep(keep)
        assert not space.bank.hardened.any()
    space.set_keep({f'layer1.{k}.conv1': 8 for k in range(3)})
    space.set_keep({'stem.0': 16})
    assert space.structure().kept('stem.0') == 16
    report = space.report()
    assert '16 / 32  (8 to 24, by 8)' in report and '8 / 48  (1 to 40, tied: layer1.*.conv1)' in report
    assert report.count('(8 to') == 1 and ' / 80\n' in report
    space.bank.harden(0, torch.arange(32) < 9)
    with pytest.raises(ValueError, match='not 9'):
        space.structure()
    search = dms_mm.Search(searchable(units=units, verify=False), TARGET, 2)
    with pytest.raises(ValueError, match='not 1|keep equal'):
        search.finalize(torch.arange(len(search.bank.keep)) < 1)


@pytest.mark.parametrize(
    ('units', 'message'),
    [
        ({'stem.0': dict(min=20, max=10)}, 'min=20 is above max=10'),
        ({'stem.0': dict(min=17, max=23, round_to=8)}, 'no multiple of 8 from 17 to 23'),
        ({'stem.0': dict(max=-1)}, 'must be a whole number'),
        ({'stem.0': dict(tie=3)}, 'must be a name'),
        ({'stem.0': dict(tie='a'), 'down.0': dict(tie='a')}, "tie 'a' holds 'stem.0' .channel of 32"),
        ({'layer1/depth': dict(max=0, min=1)}, 'min=1 is above max=0'),
        ({'stem.0': dict(maxx=3)}, "unknown setting 'maxx'"),
    ],
)
def test_wrong_grids_are_named(units, message):
    with pytest.raises(ValueError, match=message):
        searchable(units=units, verify=False)


def test_a_target_above_the_largest_structure_is_refused():
    space = searchable(units={'*conv1': dict(max=20), 'layer?/depth': dict(max=1)}, verify=False)
    with pytest.raises(ValueError, match='above the largest structure'):
        dms_mm.Search(space, {'macs': 0.9}, 4)


def test_a_search_is_begun_anew_in_its_last_phase():
    """As a resumed run does: blocks that are held by then do not make the space smaller."""
    space = searchable(units={'*conv1': dict(max=40), 'layer?/depth': dict(min=1)}, verify=False)
    top = largest(space, ['macs'])['macs'] / space.supernet['macs']
    search = dms_mm.Search(space, {'macs': 0.98 * top}, 10, warmup=0.0, widths_only=0.9)
    space.set_keep({'layer1/depth': 1})
    search.bank.get_buffer('held')[space.units['layer1/depth'].index] = True
    again = dms_mm.Search(space, {'macs': 0.98 * top}, 10, warmup=0.0, widths_only=0.9)
    assert again.finalize().resources['macs'] >= 0.97 * top * space.supernet['macs']


def test_a_fixed_width_is_chosen_but_not_changed():
    space = searchable(units={'layer1.0.conv1': dict(min=24, max=24)}, verify=False)
    search = dms_mm.Search(space, TARGET, 4)
    train(space, search, 4)
    assert search.finalize().kept('layer1.0.conv1') == 24
