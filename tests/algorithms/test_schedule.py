"""Phases by steps and by epochs; what is hard in the last one; modes of models whose weights are kept."""

import pytest
import torch
from torch import nn

import dms_mm
from builders.small import searchable, train
from dms_mm.algorithms.modes import keep_still
from dms_mm.algorithms.schedule import Schedule


@pytest.mark.parametrize('epochs', [2, 3, 4, 10, 30])
@pytest.mark.parametrize('warmup', [0.0, 0.2])
def test_by_epochs_everything_changes_where_one_begins(epochs, warmup):
    steps = 7 * epochs
    schedule = Schedule(steps, warmup, 0.5, 0.1, epochs)
    states = [(schedule.done(s), schedule.warms(s), schedule.moves(s), schedule.hard(s)) for s in range(steps)]
    for number in range(epochs):
        assert len(set(states[7 * number : 7 * number + 7])) == 1
    done = [s[0] for s in states]
    assert done == sorted(done) and done[-1] == 1 and schedule.done(steps) == 1
    assert all(warms != moves and (moves or d == 0) for d, warms, moves, _ in states)
    assert [s[3] for s in states].index(True) == steps - 7 * max(1, round(0.1 * epochs))


def test_by_steps_the_target_falls_between_warm_up_and_the_end_of_the_ramp():
    schedule = Schedule(100, 0.1, 0.4, 0.2)
    done = [schedule.done(s) for s in range(101)]
    assert max(done[:11]) == 0 and done[50:] == [1] * 51 and done[30] == pytest.approx(0.5)
    assert [schedule.hard(s) for s in (79, 80)] == [False, True]
    assert [schedule.moves(s) for s in (9, 10)] == [False, True] and schedule.warms(10) and not schedule.warms(11)


@pytest.mark.parametrize(
    ('options', 'message'),
    [(dict(epochs=0), 'epochs=0 of the search'), (dict(epochs=1.5), 'epochs=1.5'), (dict(ramp=2), 'ramp=2 of the')],
)
def test_wrong_schedules_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        dms_mm.Search(searchable(), {'macs': 0.5}, 10, **options)


def test_a_search_by_epochs_has_one_target_in_each():
    space = searchable()
    search = dms_mm.Search(space, {'macs': 0.25}, 8, warmup=0.0, ramp=0.8, widths_only=0.25, epochs=4)
    goals, hard = [], []

    def note():
        goals.append(search.goal('macs') / space.supernet['macs'])
        hard.append(bool(space.bank.hardened.any()))

    train(space, search, 8, each=note)
    assert goals[:7] == pytest.approx([0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]) and hard == [False] * 5 + [True] * 3


def test_blocks_and_heads_are_hard_in_the_last_phase_and_the_target_is_met():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True, norm_first=True, dropout=0.0)
    model = nn.Sequential(nn.Linear(8, 32), nn.TransformerEncoder(layer, 3), nn.Linear(32, 5)).eval()
    x = torch.randn(2, 6, 8)
    space = dms_mm.make_searchable(model, x)
    search = dms_mm.Search(space, {'macs': 0.5}, 8, warmup=0.0, widths_only=0.3)
    for step in range(8):
        space.model(x).square().sum().backward()
        search.step()
        kinds = {u.kind for u in space.units.values() if bool(space.bank.hardened[u.index])}
        assert kinds == ({'head', 'depth'} if step >= 5 else set())
    macs = search.finalize().resources['macs'] / space.supernet['macs']
    assert 0.99 * 0.5 <= macs <= 0.5


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.dropout, self.norm = nn.Linear(4, 2), nn.Dropout(), nn.BatchNorm1d(4)

    def loss(self): ...


def test_kept_weights_see_no_dropout_but_batch_norms_that_train():
    frozen = nn.BatchNorm2d(4).eval()
    model = nn.Module()
    model.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(), nn.LayerNorm(4))
    model.attention, model.frozen, model.head = nn.MultiheadAttention(4, 2, dropout=0.5), frozen, Head()
    model.train()
    frozen.eval()
    keep_still(model)
    training = {name for name, module in model.named_modules() if module.training}
    assert training == {'body.1', 'head', 'head.linear', 'head.norm'}
