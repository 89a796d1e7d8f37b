"""Searches with every selector: they meet their target, resume, and need a rule that can train what they have."""

import copy
import functools

import pytest
import torch

import builders.small
import dms_mm
from builders.small import train

SELECTORS = ['topk', 'GET', 'MES', 'SNS', 'MinMaxTopk']
RMSPROP = dict(type='dms_mm.RMSpropTF', alpha=0.9, eps=1e-3, momentum=0.9)


@functools.cache
def traced(selector):
    return builders.small.searchable(selector=selector)


def searchable(selector='topk', **options):
    """Traced once for each selector."""
    return builders.small.searchable(selector=selector, **options) if options else copy.deepcopy(traced(selector))


def begin(space, steps=8, share=0.4, lr=0.02, optimizer=RMSPROP, **options):
    rule = dict(type='PaperRule', optimizer=dict(optimizer, lr=lr))
    return dms_mm.Search(space, {'macs': share}, steps, rule=rule, **{'warmup': 0.0, **options})


def trajectory(space, search, steps, begin=0):
    """All that is trained, all masks and importances of some steps, in one vector."""
    seen, bank = [], space.bank

    def note():
        seen.extend([bank.trained.detach().clone().ravel(), bank.mask.clone(), bank.importance.clone()])

    train(space, search, steps, begin, note)
    return torch.cat(seen)


@pytest.mark.parametrize('selector', SELECTORS)
@pytest.mark.parametrize('share', [0.15, 0.4, 0.8])
def test_the_target_is_met_from_below_and_the_slim_model_is_the_masked_one(selector, share):
    space = searchable(selector=selector)
    search = begin(space, 6, share)
    train(space, search, 6)
    structure = search.finalize()
    assert 0.99 * share <= structure.resources['macs'] / structure.supernet['macs'] <= share
    assert structure.resources == space.resources()
    space.model.eval()
    x = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(space.slim()(x), space.model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('selector', SELECTORS)
@pytest.mark.parametrize('optimizer', [RMSPROP, dict(type='Adam', betas=(0.8, 0.9)), dict(type='SGD', momentum=0.9)])
def test_a_search_resumes_to_the_bit(selector, optimizer):
    steps, stop = 6, 3
    space = searchable(selector=selector)
    whole = trajectory(space, begin(space, steps, optimizer=optimizer), steps)
    first = searchable(selector=selector)
    half = begin(first, steps, optimizer=optimizer)
    begun = trajectory(first, half, stop)
    saved = copy.deepcopy((first.model.state_dict(), half.state_dict()))
    assert all(isinstance(v, torch.Tensor) for v in saved[1].values())
    second = searchable(selector=selector)
    rest = begin(second, steps, optimizer=optimizer)
    second.model.load_state_dict(saved[0])
    rest.load_state_dict(saved[1])
    rest = begin(second, steps, optimizer=optimizer)  # a runner makes its search anew around the restored bank
    assert torch.equal(torch.cat([begun, trajectory(second, rest, steps - stop, stop)]), whole)


@pytest.mark.parametrize('selector', ['MES', 'SNS', 'MinMaxTopk'])
def test_a_rule_of_shares_refuses_other_numbers_before_training(selector):
    with pytest.raises(ValueError, match='rule BalancedRule moves the share of each unit .* selector .* trains its'):
        dms_mm.Search(searchable(selector=selector), {'macs': 0.5}, 10)


@pytest.mark.parametrize('selector', SELECTORS)
def test_the_budget_pulls_every_selector_to_its_target(selector):
    """Without anything from the task: the resource's gradient alone has the right sign, and stops at the target."""
    space = searchable(selector=selector)
    space.bank.importance.copy_(torch.rand(len(space.bank.importance)))
    space.bank.refresh()
    search = begin(space, 400, 0.1, 0.05, dict(type='SGD'), ramp=0.0, widths_only=0.0)
    for _ in range(300):
        search.rule.step(torch.zeros_like(space.bank.trained, requires_grad=False))
        space.bank.refresh()
        if float(search.resource_loss()) == 0:
            break
    assert 0.05 < float(space.soft_resource('macs')) / space.supernet['macs'] <= 0.1
    before = space.bank.trained.detach().clone()
    search.rule.step(torch.zeros_like(space.bank.trained, requires_grad=False))
    assert torch.equal(before, space.bank.trained)


def test_a_search_that_does_not_get_there_says_how_far_it_was(caplog):
    def after(**options):
        space = searchable()
        search = dms_mm.Search(space, {'macs': 0.3}, 30, warmup=0.0, **options)
        train(space, search, 30)
        caplog.clear()
        reached = search.reached()['macs']
        structure = search.finalize()
        assert 0.99 * 0.3 <= structure.resources['macs'] / structure.supernet['macs'] <= 0.3
        return reached, caplog.text

    reached, text = after(rule='paper', lr=2e-5)
    assert reached > 3 and f'macs {reached:.3g} times its target' in text and 'after 30 of 30 steps' in text
    for lr in (0.03, 0.3):
        reached, text = after(rule='paper', lr=lr)
        assert bool(text) == (not 0.9 <= reached <= 1.05)
    reached, text = after()
    assert reached == pytest.approx(1, abs=1e-3) and not text


def test_what_the_last_phase_held_is_let_go_where_nothing_else_meets_the_target():
    space = searchable(ignore=['stem', 'down'], units={'layer*.conv1': dict(min_channels=40)})
    search = dms_mm.Search(space, {'macs': 0.35}, 4, rule='paper', lr=0.0, warmup=0.0, widths_only=0.5)
    train(space, search, 4)
    depth = [u for u in space.units.values() if u.kind == 'depth']
    assert depth and all(bool(space.bank.hardened[u.index]) for u in depth)
    structure = search.finalize()
    assert structure.resources['macs'] <= 0.35 * structure.supernet['macs'] and structure.removed


def test_blocks_come_back_where_full_widths_do_not_fill_the_target():
    space = searchable()
    search = dms_mm.Search(space, {'macs': 0.9}, 4, rule='paper', lr=0.0)
    with torch.no_grad():
        for unit in space.units.values():
            space.bank.ratio[unit.index] = 0.9 if unit.kind == 'depth' else 0.0
    structure = search.finalize()
    assert 0.99 * 0.9 <= structure.resources['macs'] / structure.supernet['macs'] <= 0.9
    # A unit that was hard before the search stays as it is.
    space = searchable()
    space.set_keep({'layer1/depth': 1})
    search = dms_mm.Search(space, {'macs': 0.3}, 4, rule='paper', lr=0.0, widths_only=1.0)
    train(space, search, 4)
    assert search.finalize().kept('layer1/depth') == 1
