"""Equivalence over 300 random networks; those that ever failed stay in the list below."""

import pytest
import torch

import dms_mm
from builders.random_graphs import SIDE, RandomNet
from dms_mm.slimming.verify import verify_equivalence

# Seeds that once failed, and why.
FAILED: dict[int, str] = {
    16: 'one head: rows of queries, keys and values of one weight were told apart by their classes',
    25: 'a tie of freshly fused ids was made again and again',
    30: 'no checked structure cut the heads',
    38: 'no checked structure cut the head dims of the keys',
    83: 'one attribute for two sizes, of which the first was whole in the checked structures',
    139: 'a slice at a fixed number, whose first channels stayed in the checked structures',
    162: 'an attribute with the meaning of another size of the same count',
    184: 'the same, for groups of queries',
    199: 'the channels of a whole group were cut',
    253: 'a map reshaped to the width of its input by another number',
    358: 'two head dims that kept the same number in every checked structure',
    384: 'heads tied to as many positions in them',
    747: 'heads and groups that kept the same number in every checked structure',
    852: 'the same, in more structures at random',
}


def check(seed: int) -> int:
    model = RandomNet(seed).eval()
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    try:
        space = dms_mm.make_searchable(model, x)
    except ValueError as error:
        assert 'nothing to search' in str(error)
        return 0
    verify_equivalence(space, x, seed=seed)
    return len(space.units)


@pytest.mark.slow
@pytest.mark.parametrize('block', [*range(10), 40, 41])
def test_random_networks(block):
    units = [check(seed) for seed in range(25 * block, 25 * block + 25)]
    assert sum(units) > 50, 'random networks must have something to search'


@pytest.mark.parametrize('seed', FAILED)
def test_networks_that_once_failed(seed):
    check(seed)
