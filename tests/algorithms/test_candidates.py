"""Structures between uniform scaling and a found one, and which of them a short training prefers."""

import pytest
import torch
from torch.nn.functional import cross_entropy

import dms_mm
from builders.small import X, Y, train
from builders.strategies import SPACES, assert_same, share_of, state_of
from dms_mm.algorithms.budget import uniform_keep
from dms_mm.algorithms.candidates import between, candidates_of, compare
from dms_mm.algorithms.strategies.structures import counts_of, depth_units, macs_of, random_keep

SHARES = (0.0, 0.3, 0.7, 1.0)


@pytest.mark.parametrize('name', SPACES)
def test_the_way_leads_from_uniform_scaling_to_what_was_found(name):
    space = SPACES[name]()
    target = {'macs': 0.35}
    found = random_keep(space, target, torch.Generator().manual_seed(3))
    before = state_of(space)
    way = between(space, target, found, SHARES)
    assert_same(before, state_of(space))
    uniform = uniform_keep(space, target, scale_depth=True)
    assert torch.equal(counts_of(space, way[0]), counts_of(space, uniform)) and torch.equal(way[-1], found)
    assert all(0.99 * 0.35 <= share_of(space, keep) <= 0.35 for keep in way)
    count, most = counts_of(space, found), [int((keep & found).sum()) for keep in way]
    assert all(torch.equal(torch.minimum(count, counts_of(space, k)).sum(), torch.tensor(m)) for k, m in zip(way, most))
    assert len({tuple(keep.tolist()) for keep in way}) == len(way)
    depths = [int(keep[depth_units(space)[space.bank.segment]].sum()) for keep in way]
    assert depths in (sorted(depths), sorted(depths)[::-1])


def test_what_is_fixed_stays_and_a_search_is_left_as_it_is():
    space = SPACES['conv']()
    fixed = space.units['layer2.0.conv1']
    space.set_keep({fixed.name: 17})
    search = dms_mm.Search(space, {'macs': 0.35}, 12, warmup=0.0, widths_only=0.3)
    train(space, search, 12)
    before = {k: v.clone() for k, v in space.bank.state_dict().items()}
    way = candidates_of(search, SHARES)
    assert all(torch.equal(value, before[k]) for k, value in space.bank.state_dict().items())
    assert all(int(keep[fixed.start : fixed.start + fixed.size].sum()) == 17 for keep in way)
    found = [search.finalize(keep) for keep in (way[1], way[-1])]
    again = SPACES['conv']()
    again.set_keep({fixed.name: 17})
    other = dms_mm.Search(again, {'macs': 0.35}, 12, warmup=0.0, widths_only=0.3)
    train(again, other, 12)
    assert other.finalize() == found[1] != found[0]


@pytest.mark.parametrize('shares', [(), (0.5, 1.5), (-0.1,)])
def test_shares_outside_of_the_way_are_refused(shares):
    space = SPACES['conv']()
    with pytest.raises(ValueError, match='of candidates must be some numbers from 0 to 1'):
        between(space, {'macs': 0.5}, space.bank.keep, shares)


def test_the_best_after_a_short_training_is_taken_and_all_of_it_is_paid_for():
    space = SPACES['conv']()
    way = between(space, {'macs': 0.35}, random_keep(space, {'macs': 0.35}, torch.Generator().manual_seed(3)))
    before, seen = state_of(space), []

    def fit(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(model(X[:8]), Y[:8]).backward()
            optimizer.step()
        return 3 * 8

    def score(model):
        with torch.no_grad():
            seen.append(-float(cross_entropy(model.eval()(X[8:]), Y[8:])))
        return seen[-1], 8

    lines = []
    done = compare(space, [*way, way[1]], fit, score, log=lines.append)
    assert_same(before, state_of(space))
    assert done.scores == seen and done.scores[1] == done.scores[3], 'equal structures in equal trainings'
    assert done.best == seen.index(max(seen)) and len(lines) == 4
    assert done.cost.samples == 4 * (24 + 8) and done.cost.seconds > 0
    assert done.cost.macs == sum((3 * 24 + 8) * macs_of(space, keep) for keep in [*way, way[1]])


def test_a_candidate_without_a_score_is_not_taken():
    space = SPACES['conv']()
    way = between(space, {'macs': 0.35}, random_keep(space, {'macs': 0.35}, torch.Generator().manual_seed(3)), (0, 1))
    scores = iter([float('nan'), -5.0])
    assert compare(space, way, lambda model: 0, lambda model: (next(scores), 0)).best == 1
    assert compare(space, way, lambda model: 0, lambda model: (float('nan'), 0)).best is None
    close = iter([-0.1, -0.1 + 1e-9])
    assert compare(space, way, lambda model: 0, lambda model: (next(close), 0)).best == 1


def test_a_search_ends_with_no_structure_above_its_target():
    space = SPACES['conv']()
    search = dms_mm.Search(space, {'macs': 0.35}, 4)
    with pytest.raises(ValueError, match='times the target'):
        search.finalize(torch.ones_like(space.bank.keep))
    with pytest.raises(ValueError, match='bool'):
        search.finalize(torch.tensor(True))
    way = between(space, {'macs': 0.35}, random_keep(space, {'macs': 0.35}, torch.Generator().manual_seed(3)))
    search.finalize(way[1])
    assert space.bank.hard_keep().equal(way[1])
