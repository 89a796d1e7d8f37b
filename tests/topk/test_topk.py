import numpy as np
import pytest
import torch

from dms_mm import differentiable_topk
from dms_mm.topk import TopkBank, segment_ranks
from dms_mm.topk.functional import SCORES


def bank_of(sizes, importance=None, ratio=0.0, dtype=torch.float64, factor=1, min_keep=1):
    bank = TopkBank(sizes, [factor * n for n in sizes], [min_keep] * len(sizes)).to(dtype)
    if importance is not None:
        bank.importance.copy_(torch.as_tensor(importance, dtype=dtype))
    with torch.no_grad():
        bank.ratio.copy_(torch.as_tensor(ratio, dtype=dtype))
    bank.refresh()
    return bank


def test_mask_follows_equations_2_and_3():
    importance = torch.tensor([3.0, 1.0, 2.0, 10.0], dtype=torch.float64)
    ratio = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    mask = differentiable_topk(importance, ratio)
    rank = torch.tensor([2, 0, 1, 3]) / 4
    expected = torch.sigmoid(4 * (rank - 0.4))
    torch.testing.assert_close(mask, expected.double(), rtol=1e-7, atol=1e-7)
    (grad,) = torch.autograd.grad(mask.sum(), ratio)
    m = mask.detach()
    torch.testing.assert_close(grad, (-4 * m * (1 - m)).sum())
    sharp = differentiable_topk(importance, ratio, temperature=16.0)
    torch.testing.assert_close(sharp, torch.sigmoid(16 * (rank - 0.4)).double(), rtol=1e-6, atol=1e-6)


def test_mask_depends_on_order_alone():
    importance = torch.rand(50, dtype=torch.float64)
    ratio = torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(
        differentiable_topk(importance, ratio), differentiable_topk(importance.pow(5) * 1e-6, ratio)
    )


def test_all_ones_until_scores_differ():
    assert differentiable_topk(torch.zeros(7), torch.tensor(0.9)).eq(1).all()
    bank = bank_of([4, 3], ratio=0.9)
    assert bank.mask.eq(1).all()
    bank.importance[0] = 1.0
    bank.refresh()
    assert bank.mask[:4].lt(1).any() and bank.mask[4:].eq(1).all()


def test_ties_are_broken_by_index():
    segment = torch.tensor([0, 0, 0, 0, 1, 1])
    start, size = torch.tensor([0, 4]), torch.tensor([4, 2])
    rank = segment_ranks(torch.tensor([1.0, 1.0, 0.0, 1.0, 5.0, 5.0]), segment, start, size)
    assert rank.tolist() == [0.25, 0.5, 0.0, 0.75, 0.0, 0.5]


def test_segment_ranks_agree_with_the_definition():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 40, 60).tolist()
    bank = bank_of(sizes, rng.permutation(sum(sizes)).astype(float))
    for unit, size in enumerate(sizes):
        c = bank.importance[bank.start[unit] : bank.start[unit] + size]
        definition = (c[:, None] > c[None, :]).sum(1) / size
        torch.testing.assert_close(bank.rank[bank.start[unit] : bank.start[unit] + size], definition.double())


def test_bank_and_function_agree_and_chain_rule_matches_autograd():
    sizes = [5, 16, 3]
    bank = bank_of(sizes, torch.rand(24), ratio=[0.2, 0.5, 0.4])
    g = torch.randn(24, dtype=torch.float64)
    for unit, size in enumerate(sizes):
        cut = slice(int(bank.start[unit]), int(bank.start[unit]) + size)
        torch.testing.assert_close(
            bank.mask[cut], differentiable_topk(bank.importance[cut], bank.ratio[unit], place=0.5).detach()
        )
    (expected,) = torch.autograd.grad((bank.soft() * g).sum(), bank.ratio)
    torch.testing.assert_close(bank.chain(g), expected)


def test_only_elements_near_the_threshold_carry_gradient():
    bank = bank_of([200], torch.rand(200), ratio=0.5)
    slope = 200 * bank.mask * (1 - bank.mask)
    assert int((slope > 0.1 * slope.max()).sum()) in range(4, 10)


@pytest.mark.parametrize('name', list(SCORES))
def test_importance_scores_and_moving_average(name):
    bank = bank_of([6], torch.rand(6), ratio=0.3)
    before, m = bank.importance.clone(), bank.mask.clone()
    g = torch.randn(6, dtype=torch.float64)
    score = {'taylor': (m * g) ** 2, 'fisher': g**2, 'snip': (m * g).abs()}[name]
    bank.update_importance(g, name, decay=0.99)
    torch.testing.assert_close(bank.importance, 0.99 * before + 0.01 * score)
    bank.update_importance(g, name, decay=0.0)
    torch.testing.assert_close(bank.importance, score)


def test_backward_collects_mask_gradients_of_all_units_in_one_vector():
    bank = bank_of([4, 3], torch.rand(7), ratio=0.2)
    w = torch.randn(7, dtype=torch.float64)
    for _ in range(2):
        loss = (bank.leaves[0] * w[:4]).sum() + (bank.leaves[1] * w[4:]).sum()
        loss.backward()
    torch.testing.assert_close(bank.take_grad(), 2 * w)
    assert bank.take_grad().eq(0).all()
    assert bank.leaves[0].data_ptr() == bank.mask.data_ptr(), 'masks must stay views of the one storage'


def test_bounds_and_hard_counts():
    bank = bank_of([10, 4], torch.rand(14), ratio=[0.99, 0.4], min_keep=2)
    bank.clamp()
    assert bank.ratio.tolist() == pytest.approx([0.8, 0.4])
    assert bank.hard_counts().tolist() == [2, 2]
    keep = bank.hard_keep()
    assert keep[:10].nonzero().flatten().tolist() == sorted(torch.topk(bank.importance[:10], 2).indices.tolist())


def test_hardened_units_ignore_their_ratio():
    bank = bank_of([4], torch.rand(4), ratio=0.5)
    bank.harden(0, torch.tensor([True, False, True, True]))
    assert bank.mask.tolist() == [1, 0, 1, 1]
    assert bank.chain(torch.ones(4, dtype=torch.float64)).tolist() == [0]


def test_ratio_is_no_parameter_but_keeps_its_gradient_after_a_move():
    bank = bank_of([4], torch.rand(4), ratio=0.5)
    assert not list(bank.parameters())
    bank.float()
    assert bank.ratio.requires_grad and bank.ratio.is_leaf
    assert bank.leaves[0].dtype == torch.float32


def test_copy_and_state_dict_give_the_same_masks():
    import copy

    bank = bank_of([5, 3], torch.rand(8), ratio=[0.3, 0.6])
    bank.harden(1, torch.tensor([True, False, True]))
    twin = copy.deepcopy(bank)
    torch.testing.assert_close(twin.mask, bank.mask)
    other = TopkBank([5, 3], [5, 3], [1, 1]).double()
    other.load_state_dict(bank.state_dict())
    torch.testing.assert_close(other.mask, bank.mask)
    twin.leaves[0].sum().backward()
    assert bank.take_grad().eq(0).all(), 'a copy must not write into the original'


def test_memory_is_linear_in_the_number_of_elements():
    """An N x N comparison of 200,000 elements would need 40 GB."""
    sizes = [100_000, 100_000]
    bank = bank_of(sizes, torch.rand(200_000), ratio=0.5, dtype=torch.float32)
    bank.update_importance(torch.randn(200_000))
    bank.refresh()
    assert abs(float(bank.mask.sum()) - 100_000) < 2


def test_ranks_of_either_precision_are_the_same():
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([7, 1, 300, 12])
    segment = torch.repeat_interleave(torch.arange(4), size)
    start = size.cumsum(0) - size
    scores = torch.randn(len(segment), generator=generator)
    # Equal ones, both zeros, the smallest and the largest numbers.
    scores[::5], scores[2::9], scores[3::9], scores[4::31] = 0.5, 0.0, -0.0, 1e-45
    scores[5::41], scores[6::43] = float('inf'), float('-inf')
    single = segment_ranks(scores, segment, start, size)
    assert torch.equal(single, segment_ranks(scores.double(), segment, start, size).float())
    assert single.dtype == torch.float32
