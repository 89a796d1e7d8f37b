"""Leaves of one unit are one mask: whoever uses whichever of them, the gradient is that of all uses together."""

import copy

import pytest
import torch

from dms_mm.topk import TopkBank
from dms_mm.topk.leaves import Shaped


@pytest.fixture
def bank():
    torch.manual_seed(0)
    found = TopkBank([4, 1, 3], [4, 4, 3], [1, 0, 1])
    found.importance.copy_(torch.rand(8))
    with torch.no_grad():
        found.ratio.fill_(0.4)
    found.ask([Shaped(0, 2), Shaped(1, element=0), Shaped(2, 1), Shaped(2, element=1), Shaped(0)])
    found.refresh()
    return found


def loss_of(bank, w):
    """Every way to read a mask, weighted; what was asked for and what was not."""
    leaves = bank.leaves
    shaped = (leaves.before(0, 2) * w[:4].view(4, 1, 1)).square().sum() + (leaves.before(2, 1) * w[5:].view(3, 1)).sum()
    single = leaves.element(1, 0) * w[4] + leaves.element(2, 1).square()
    return shaped + single + leaves[0].sum() + leaves.before(0, 3).sum() + leaves.element(0, 2) * 3


def expected(bank, w):
    m = bank.mask.clone().requires_grad_()
    loss = (m[:4] * w[:4]).square().sum() + (m[5:] * w[5:]).sum() + m[4] * w[4] + m[6].square() + 2 * m[:4].sum()
    return torch.autograd.grad(loss + 3 * m[2], m)[0]


def test_every_way_to_read_a_mask_adds_to_its_one_gradient(bank):
    w = torch.randn(8)
    want = expected(bank, w)
    torch.testing.assert_close(bank.leaves.gradients(loss_of(bank, w)), want)
    assert bank.grad.eq(0).all(), 'gradients() collects nothing'
    for _ in range(2):
        loss_of(bank, w).backward()
    torch.testing.assert_close(bank.leaves[2].grad, 2 * want[5:])
    torch.testing.assert_close(bank.take_grad(), 2 * want)
    assert bank.take_grad().eq(0).all()


def test_what_was_asked_for_is_a_leaf_in_every_copy_and_shows_the_same_numbers(bank):
    for own in (bank, copy.deepcopy(bank), copy.deepcopy(bank).double()):
        own.ratio.data.fill_(0.7)
        own.refresh()
        for leaf in (own.leaves.before(0, 2), own.leaves.element(1, 0), own.leaves.before(2, 1)):
            assert leaf.is_leaf and leaf.requires_grad and leaf.dtype == own.mask.dtype
        assert torch.equal(own.leaves.before(0, 2).flatten(), own.mask[:4])
        assert torch.equal(own.leaves.element(2, 1), own.mask[6])
        assert not own.leaves.before(0, 3).is_leaf


def test_gradients_with_a_graph_are_collected_too_but_not_both_kinds_at_once(bank):
    w = torch.randn(8)
    want = expected(bank, w)
    for _ in range(2):
        loss_of(bank, w).backward(create_graph=True)
    torch.testing.assert_close(bank.take_grad(), 2 * want)
    loss_of(bank, w).backward()
    torch.testing.assert_close(bank.take_grad(), want)
    loss_of(bank, w).backward()
    loss_of(bank, w).backward(create_graph=True)
    with pytest.raises(RuntimeError, match='create_graph'):
        bank.take_grad()
