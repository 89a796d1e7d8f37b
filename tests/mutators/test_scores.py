"""Importances that need no gradient."""

import torch
from torch import nn
from torch.nn import functional as F

import dms_mm


class Projected(nn.Module):
    """Channels that a weight and a buffer make together, as a rotary embedding's frequencies and its projections do."""

    def __init__(self):
        super().__init__()
        self.weighted, self.out = nn.Linear(3, 8, bias=False), nn.Linear(8, 4)
        self.register_buffer('fixed', torch.randn(8, 3))

    def forward(self, x):
        return self.out(self.weighted(x) * F.linear(x, self.fixed))


def test_l1_scores_are_of_weights_and_not_of_buffers():
    torch.manual_seed(0)
    model = Projected()
    space = dms_mm.make_searchable(model, torch.zeros(2, 3), verify=True)
    torch.testing.assert_close(space.l1_scores(), model.weighted.weight.detach().abs().sum(1))
