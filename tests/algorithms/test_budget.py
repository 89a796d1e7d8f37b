"""Budgets: with units, of several resources and of parts; what a structure takes of them, and which one binds."""

import copy
import math
from functools import cache

import pytest
import torch

import dms_mm
from builders.read_backs import read_backs
from builders.small import searchable, train
from dms_mm.algorithms.budget import Ending, fit_counts, parse_target, preview, uniform_keep
from dms_mm.resources import Resource, ResourceModel, amount, shown
from dms_mm.resources.amounts import UNITS

PARTS = ('layer1', 'layer2', '*.conv1', 'down', 'layer1.0')


class Seconds(ResourceModel):
    """A second for every 1e9 MACs: less than one for any structure."""

    integer, unit, by_parts = False, 's', True

    def __init__(self, context):
        super().__init__([(f * 1e-9, d, b) for _, terms in context.operators() for f, d, b in terms], context.bank)


class Bytes(ResourceModel):
    unit, by_parts = 'B', True

    def __init__(self, context):
        super().__init__([(f * 4, d, b) for _, terms in context.parameters() for f, d, b in terms], context.bank)


class Whole(Resource):
    def value(self, kept, masks):
        return kept.sum()

    def __init__(self, context):
        super().__init__()


@cache
def _whole():
    return searchable(
        resources={'time': dict(type=Seconds), 'size': dict(type=Bytes), 'own': dict(type=Whole)},
        units={'layer1.*': dict(round_to=4)},
    )


def space_of_all():
    return copy.deepcopy(_whole())


def test_an_amount_is_its_number_times_its_unit():
    for unit, names in UNITS.items():
        for name, scale in names.items():
            for text in (f'2.5{name}', f' 2.5 {name} ', f'25e-1{name}'):
                assert amount(text, unit) == (pytest.approx(2.5 * scale, rel=1e-15), False)
        assert amount('40%', unit) == (pytest.approx(0.4), True)
        assert amount('1,000', unit) == (1000.0, None)
        for value in (0.00321, 1.5, 999.0, 12345.0, 3.2e9):
            back, share = amount(shown(value, unit).replace(' ', ''), unit)
            assert back == pytest.approx(value, rel=1e-3) and not share


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        (dict(macs='16MB'), "macs='16MB' has the unit 'MB', .* it is a plain number and takes k, K, M, G, B, T, %"),
        (dict(macs='390m'), "'m', which is none of this resource; did you mean 'M'"),
        (dict(macs='5b'), "did you mean 'B'"),
        (dict(time='3MS'), "did you mean 'ms'.* it is a time and takes s, ms, us"),
        (dict(time='3M'), 'it is a time'),
        (dict(size='16M'), "did you mean 'MB'.* it is a size in bytes and takes B, kB"),
        (dict(size='16mb'), "did you mean 'MB'"),
        (dict(macs='M'), 'must be a number'),
        (dict(macs='140%'), 'above the supernet'),
        (dict(macs='-1M'), 'must be above 0'),
        (dict(macs='1'), 'nothing'),
        (dict(macs='2'), 'out of reach'),
        ({'layr1/macs': 0.5}, "no module of the model is called 'layr1', .* did you mean 'layer1"),
        ({'layer1/mac': 0.5}, "unknown resource 'mac'; did you mean 'macs'"),
        ({'layer1/own': 0.5}, "resource 'own' is of the whole model: Whole can not be counted for 'layer1' alone"),
        ({'layer1.0.bn1/macs': 0.5}, "the modules 'layer1.0.bn1' have nothing of macs"),
    ],
)
def test_wrong_amounts_and_parts_are_named(target, message):
    space = space_of_all()
    if message == 'nothing':  # a plain number as text is what it is as a number
        assert parse_target(space, target) == parse_target(space, dict(macs=1))
        return
    with pytest.raises(ValueError, match=message):
        parse_target(space, target)


def test_parts_are_given_beside_the_target_or_in_it():
    space = space_of_all()
    nested = parse_target(space, dict(macs=0.5), dict(layer1=dict(macs='30%', params=0.5)))
    assert nested == parse_target(space, {'macs': 0.5, 'layer1/macs': 0.3, 'layer1/params': 0.5})
    # As a command line gives names with dots.
    assert parse_target(space, {'layer1': {'0/macs': 0.5}}) == parse_target(space, {'layer1.0/macs': 0.5})
    assert parse_target(space, {}, dict(layer1=dict(macs=0.3)))['layer1/macs'] == nested['layer1/macs']
    for parts, message in (
        (3, 'must name modules'),
        (dict(layer1=0.5), "of 'layer1' must name resources"),
        (dict(layer1={}), "of 'layer1' must name resources"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_target(space, dict(macs=0.5), parts)
    with pytest.raises(ValueError, match='given twice'):
        parse_target(space, {'layer1/macs': 0.5}, dict(layer1=dict(macs=0.5)))


def test_an_absolute_target_stays_one_however_small():
    space = space_of_all()
    targets = parse_target(space, dict(time='10us', macs=0.5))
    assert math.isclose(targets['time'], 1e-5) and parse_target(space, targets) == targets
    assert parse_target(space, dict(time=0.5))['time'] == 0.5 * space.supernet['time']


def test_parts_that_share_nothing_add_up_to_the_whole():
    space = space_of_all()
    pieces = ('stem', 'layer1', 'down', 'layer2', 'head')
    for resource in ('macs', 'params', 'time', 'size'):
        for piece in pieces:
            space.add_resource(f'{piece}/{resource}')
        for ratio in (0.0, 0.3, 0.7):
            bank = space.bank
            with torch.no_grad():
                bank.ratio.fill_(ratio)
            bank.refresh()
            counts = space.resources()
            assert sum(counts[f'{piece}/{resource}'] for piece in pieces) == pytest.approx(counts[resource], rel=1e-12)
    slim = space.slim()
    assert counts['layer1/params'] == sum(p.numel() for p in slim.layer1.parameters())


def room(space, targets, keep):
    """Whether one more step of any width still fits."""
    for u in space.units.values():
        more, part = keep.clone(), keep[u.start : u.start + u.size]
        off = torch.nonzero(~part)[: u.round_to, 0]
        more[u.start + off] = True
        counts = [space.counters[n].count(more, space.bank) <= goal for n, goal in targets.items()]
        if len(off) and all(counts) and u.kind != 'depth':
            return True
    return False


def test_structures_take_at_most_every_target_and_nearly_all_of_one():
    space, generator = space_of_all(), torch.Generator().manual_seed(0)
    names = ['macs', 'params', 'size', 'time', *(f'{part}/{r}' for part in PARTS for r in ('macs', 'params'))]
    with torch.no_grad():
        space.bank.importance.copy_(torch.rand(len(space.bank.importance), generator=generator))
    space.bank.refresh()
    near = 0
    for _ in range(25):
        chosen = [names[i] for i in torch.randperm(len(names), generator=generator)[: 1 + _ % 4]]
        target = {n: float(torch.empty(()).uniform_(0.1, 0.95, generator=generator)) for n in chosen}
        targets = parse_target(space, target)
        ratio = torch.rand(len(space.units), generator=generator).double() * 0.8
        for keep in (uniform_keep(space, target), fit_counts(space, targets, ratio)):
            taken = {n: space.counters[n].count(keep, space.bank) / goal for n, goal in targets.items()}
            assert max(taken.values()) <= 1, target
            assert max(taken.values()) >= 0.99 or not room(space, targets, keep), (target, taken)
            near += max(taken.values()) >= 0.99
            for u in space.units.values():
                part = keep[u.start : u.start + u.size]
                assert int(part.sum()) % u.round_to == 0 or u.kind == 'depth' or bool(part.all())
    assert near >= 35  # of 50: a part of few widths, in steps of four, often has nothing nearer


def test_what_is_of_another_part_is_not_scaled_along():
    """A fifth of a part's MACs binds for the part; the rest of the model takes what the whole leaves."""
    space = space_of_all()
    targets = parse_target(space, {'macs': 0.5, 'layer1/macs': 0.2})
    taken = Ending.of(targets, preview(space, targets).uniform).taken
    assert all(0.97 <= share <= 1 for share in taken.values()), taken


@pytest.mark.parametrize('rule', ['balanced', 'paper'])
def test_a_search_meets_the_budget_of_a_part_and_says_which_one_binds(rule):
    space = space_of_all()
    search = dms_mm.Search(
        space, dict(macs=0.6), 6, rule=rule, parts={'layer1': dict(macs=0.2), 'layer2': dict(params='50%')}
    )
    train(space, search, 6)
    assert set(search.reached()) == {'macs', 'layer1/macs', 'layer2/params'}
    counts = search.finalize().resources
    taken = {name: counts[name] / goal for name, goal in search.targets.items()}
    assert search.ending.taken == taken and taken[search.ending.binds] == max(taken.values())
    assert 0.99 <= max(taken.values()) <= 1
    assert f'{search.ending.binds} binds' in str(search.ending)


def test_a_search_goes_along_the_budgets_of_all_parts_and_leaves_the_rest():
    space = space_of_all()
    search = dms_mm.Search(space, {'macs': 0.5, 'layer1/macs': 0.2}, 10)
    train(space, search, 10)
    assert all(0.95 <= share <= 1.05 for share in search.reached().values()), search.reached()
    taken = Ending.of(search.targets, search.finalize().resources).taken
    assert all(0.97 <= share <= 1 for share in taken.values()), taken
    # What has no part in any budget stays whole.
    space = space_of_all()
    search = dms_mm.Search(space, {'layer2/macs': 0.3}, 10)
    train(space, search, 10)
    structure = search.finalize()
    assert all(structure.kept(n) == u.size for n, u in space.units.items() if n.startswith(('stem', 'layer1')))


def test_what_a_search_went_by_itself_and_what_was_scaled():
    space = space_of_all()
    search = dms_mm.Search(space, dict(macs=0.25), 4, rule=dict(type='paper', lr=1e-9))
    train(space, search, 4)
    search.finalize()
    ending = search.ending
    assert ending.scaled and ending.way() == {'macs': pytest.approx(0, abs=1e-3)} and 'went 0% for macs' in str(ending)
    half = Ending.of(dict(macs=25.0), dict(macs=24.9), dict(macs=2.0), dict(macs=100.0))
    assert half.way()['macs'] == pytest.approx(0.5) and half.scaled
    assert not Ending.of(dict(macs=25.0), dict(macs=24.9), dict(macs=1.0), dict(macs=100.0)).scaled


def test_a_preview_tells_smallest_uniform_and_full_and_changes_nothing():
    space = space_of_all()
    before = {name: x.clone() for name, x in space.bank.state_dict().items()}
    told = preview(space, {'macs': 0.4, 'layer2/params': 0.3})
    assert all(told.least[n] <= told.uniform[n] <= told.full[n] for n in told.full)
    assert all(told.uniform[n] <= goal for n, goal in told.targets.items())
    text = str(told)
    assert all(name in text for name in space.counters) and ' binds' in text and 'smallest' in text
    assert 'target' not in str(preview(space))
    after = space.bank.state_dict()
    assert all(torch.equal(x, after[name]) for name, x in before.items())


def test_targets_that_nothing_meets_are_an_error_that_names_them():
    """A unit that is fixed already, and a part whose budget has no room for it."""
    space = space_of_all()
    assert parse_target(space, {'down/macs': 0.01})
    space.set_keep({next(n for n in space.units if n.startswith('down')): 64})
    with pytest.raises(ValueError, match='down/macs=.* out of reach'):
        parse_target(space, {'down/macs': 0.01})
    targets = parse_target(space, {'macs': 0.5, 'down/macs': 0.1})
    targets['down/macs'] *= 0.01
    with pytest.raises(ValueError, match=r'out of reach: with what is fixed already, .* down/macs [0-9,]+ of at most'):
        fit_counts(space, targets)
    assert math.isfinite(preview(space, {'macs': 0.5}).uniform['macs'])


@pytest.mark.parametrize(('rule', 'most'), [('balanced', 11), ('bayes', 15), ('paper', 4)])
def test_a_structure_step_reads_little_back(rule, most, monkeypatch):
    """On a GPU each number that Python asks for waits for all that was launched: no step asks for more than it does."""
    space = searchable()
    search = dms_mm.Search(space, dict(macs=0.4), 20, rule=rule)
    train(space, search, 6)
    for _ in range(3):
        space.bank.grad.normal_(generator=torch.Generator().manual_seed(0))
        with read_backs(monkeypatch) as found:
            search.step()
        assert sum(found.values()) <= most, found
