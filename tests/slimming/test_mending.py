"""Sizes that a forward keeps in attributes: mended where that works, frozen where it doesn't."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dms_mm
from dms_mm.slimming.verify import verify_equivalence


class Mixed(nn.Module):
    """Splits by a stored list of unequal sizes, as timm's MixedConv2d."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        self.stem = nn.Conv2d(3, sum(sizes), 3)
        self.parts = nn.ModuleList(nn.Conv2d(n, n, 3, padding=1, groups=n) for n in sizes)
        self.out = nn.Conv2d(sum(sizes), 5, 1)

    def forward(self, x):
        pieces = torch.split(self.stem(x), self.sizes, 1)
        return self.out(torch.cat([m(p) for m, p in zip(self.parts, pieces)], 1))


class Blur(nn.Module):
    """A depthwise convolution with a buffer and a stored channel count, as timm's BlurPool2d."""

    def __init__(self):
        super().__init__()
        self.channels = 12
        self.stem, self.out = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 5, 1)
        self.register_buffer('kernel', torch.rand(12, 1, 3, 3))

    def forward(self, x):
        return self.out(F.conv2d(self.stem(x), self.kernel, groups=self.channels))


class Fixed(nn.Module):
    """A size that no attribute holds: nothing to mend."""

    def __init__(self):
        super().__init__()
        self.free, self.stem, self.out = nn.Conv2d(3, 9, 1), nn.Conv2d(9, 12, 3), nn.Conv2d(6, 5, 1)

    def forward(self, x):
        a, b = torch.split(self.stem(self.free(x)), (6, 6), 1)
        return self.out(a * b)


@pytest.mark.parametrize('model', [Mixed([8, 5, 3]), Mixed([6, 6]), Blur()])
def test_stored_sizes_are_mended(model):
    x = torch.zeros(2, 3, 16, 16)
    space = dms_mm.make_searchable(model, x)
    assert space.searchable_share() == 1 and not space.frozen and space.plan.mends
    for seed in range(3):
        assert verify_equivalence(space, x, seed=seed) < 1e-8
    slim = space.slim()
    assert isinstance(getattr(slim, 'sizes', []), (list, tuple))


def test_sizes_in_code_freeze_their_units_and_are_reported():
    space = dms_mm.make_searchable(Fixed(), torch.zeros(2, 3, 16, 16), verify=True)
    assert list(space.units) == ['free']
    assert 'frozen because the slim forward failed' in space.report() and 'split_with_sizes' in space.report()
