"""Rules by name, by type and with options beside them are the same rules; state of a rule's own is kept."""

import copy

import pytest
import torch

import dms_mm
from builders.small import driven, searchable, train
from dms_mm.algorithms.rules import BalancedRule, BayesRule, PaperRule, Rule
from dms_mm.topk import TopkBank


def trajectory(space, search, steps, begin=0):
    """All ratios, masks, importances and losses of some steps, in one vector."""
    seen = []
    bank = space.bank

    def note():
        seen.extend([search.resource_loss().detach().reshape(1), bank.ratio.detach().clone()])
        seen.extend([bank.mask.clone(), bank.importance.clone()])

    train(space, search, steps, begin, note)
    return torch.cat(seen)


@pytest.mark.parametrize(
    ('name', 'cls', 'options'),
    [
        ('balanced', BalancedRule, dict(travel=3.0, momentum=0.9, clip=1.0, floor=0.1)),
        ('bayes', BayesRule, dict(travel=3.0, clip=1.0, floor=0.1)),
        ('paper', PaperRule, dict(lr=0.05, weight=2.0)),
    ],
)
def test_options_beside_a_name_and_in_a_dict_give_the_same_search(name, cls, options):
    half = dict(list(options.items())[:1])
    rest = {k: v for k, v in options.items() if k not in half}
    runs = []
    for given in (
        dict(rule=name, **options),
        dict(rule=dict(type=cls.__name__, **options)),
        dict(rule=dict(type=f'dms_mm.{cls.__name__}', **half), **rest),
        dict(rule=dict(type=cls, **options)),
    ):
        space = searchable()
        search = dms_mm.Search(space, {'macs': 0.3}, 10, warmup=0.1, **given)
        runs.append((trajectory(space, search, 10), search.finalize()))
    for path, structure in runs[1:]:
        assert torch.equal(path, runs[0][0]) and structure == runs[0][1]
    assert runs[0][0].isfinite().all() and runs[0][1].resources['macs'] < runs[0][1].supernet['macs']


def test_every_option_of_a_rule_matters():
    """An option that went astray on its way to the rule would change nothing."""
    base = dict(rule='balanced', warmup=0.0), dict(rule='paper', warmup=0.0)
    changes = [dict(travel=4.0), dict(momentum=0.5), dict(clip=0.3)], [dict(lr=0.1), dict(weight=3.0)]
    for common, several in zip(base, changes):
        runs = []
        for change in [{}, *several]:
            space = searchable()
            search = dms_mm.Search(space, {'macs': 0.5}, 6, **common, **change)
            runs.append(trajectory(space, search, 6))
        assert all(not torch.equal(run, runs[0]) for run in runs[1:])
    space = searchable()
    low = [dms_mm.Search(space, {'macs': 0.5}, 6, floor=f).rule.low for f in (0.0, 0.2)]
    assert (low[1] >= low[0]).all() and (low[1] > low[0]).any()


class Remembering(Rule):
    """Plain descent along a running sum, which it must not forget."""

    def __init__(self, search, rate=0.02):
        super().__init__(search)
        self.rate = rate
        self.bank.remember('total', torch.zeros_like(self.bank.ratio))
        self.bank.remember('calls', torch.zeros((), dtype=torch.long))

    def step(self, task):
        (budget,) = torch.autograd.grad(self.search.resource_loss(), self.bank.ratio)
        self.bank.get_buffer('calls').add_(1)
        self.bank.get_buffer('total').add_(task + budget)
        with torch.no_grad():
            self.bank.ratio.sub_(self.rate * self.bank.get_buffer('total') * ~self.bank.hardened)
            self.bank.clamp()


def test_state_of_a_rule_of_ones_own_is_saved_resumed_and_moved():
    def begin(space):
        return dms_mm.Search(space, {'macs': 0.5}, 12, rule=dict(type=Remembering), warmup=0.0)

    space = searchable()
    whole = trajectory(space, begin(space), 12)
    first = searchable()
    half = begin(first)
    begun = trajectory(first, half, 5)
    saved = copy.deepcopy((first.model.state_dict(), half.state_dict()))
    assert set(saved[1]) == {'ratio', 'importance', 'steps', 'warm', 'keep', 'hardened', 'held', 'total', 'calls'}
    second = searchable()
    rest = begin(second)
    second.model.load_state_dict(saved[0])
    rest.load_state_dict(saved[1])
    # A runner makes its search anew around the restored bank.
    rest = begin(second)
    assert int(second.bank.get_buffer('calls')) == 5
    ended = trajectory(second, rest, 7, begin=5)
    assert torch.equal(torch.cat([begun, ended]), whole)
    second.to(torch.float64)
    assert second.bank.get_buffer('total').dtype == torch.float64
    assert torch.equal(copy.deepcopy(second).bank.get_buffer('total'), second.bank.get_buffer('total'))


def test_state_never_takes_the_place_of_something_else():
    bank = TopkBank([4, 3], [4.0, 3.0], [1, 1])
    with pytest.raises(ValueError, match="'ratio' is a name of the selector"):
        bank.remember('ratio', torch.zeros(2))
    given = torch.ones(2)
    bank.remember('mine', given).add_(1)
    assert given.eq(1).all() and bank.remember('mine', torch.zeros(2)).eq(2).all()
    with pytest.raises(ValueError, match=r"'mine' has shape \(2,\) from an earlier rule, this one needs \(3,\)"):
        bank.remember('mine', torch.zeros(3))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(rule='balnced'), r"unknown rule 'balnced'; did you mean 'balanced'\?"),
        (dict(rule=dict(type='PaperRul')), r"unknown rule 'PaperRul'; did you mean 'PaperRule'\?"),
        (dict(rule=dict(travel=1.0)), 'has no `type`'),
        (dict(travl=2.0), r"unknown option 'travl' of rule BalancedRule; did you mean 'travel'\?"),
        (dict(wramup=0.2), r"unknown option 'wramup' of rule BalancedRule; did you mean 'warmup'\?"),
        (dict(rule='paper', travel=2.0), r"unknown option 'travel' of rule PaperRule; .* are: lr, weight"),
        (dict(rule=dict(type='paper', lr=1.0), lr=2.0), "option 'lr' of the rule is given twice"),
        (dict(rule=dict(type='paper', warmup=0.2)), "option 'warmup' is none of rule PaperRule: give it beside"),
        (dict(score='tailor'), r"unknown score 'tailor'; did you mean 'taylor'\?"),
        (dict(warmup=1.5), 'warmup=1.5 of the search must be a number from 0 to 1'),
    ],
)
def test_wrong_options_name_the_nearest_valid_one(options, message):
    with pytest.raises(ValueError, match=message):
        dms_mm.Search(searchable(), {'macs': 0.5}, 10, **options)


def test_noise_alone_hardly_moves_the_bayes_rule_and_a_signal_does():
    uniform, search = driven('bayes', 0.0)
    assert search.rule.confidence.eq(0).all()
    moved = {
        rule: [(driven(rule, 1.0, seed=s)[0] - uniform).norm() for s in range(3)] for rule in ('bayes', 'balanced')
    }
    assert sum(moved['bayes']) < 0.3 * sum(moved['balanced'])
    unit = next(u for u in search.space.units.values() if u.kind == 'channel' and 'layer1' in u.name)
    signal = torch.zeros(len(search.space.units), dtype=torch.float64)
    signal[unit.index] = 1.0  # the loss grows as more of it goes
    ratio, search = driven('bayes', 0.1, signal)
    assert (uniform - ratio).argmax() == unit.index and uniform[unit.index] - ratio[unit.index] > 0.1
    assert search.rule.confidence[unit.index] > 0.9
