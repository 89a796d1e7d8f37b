"""Gradient-estimate top-k: hard forward, a gradient by assumption backward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...registry import SELECTORS, unknown
from ...topk import TopkBank, soft_mask

SLOPES = ('identity', 'sigmoid')


@SELECTORS.register_module(name=['GET', 'get'])
class GET(TopkBank):
    """The most important ``round((1 - a) N)`` elements have the mask one, the others zero (table 2).

    Args:
        slope: what stands for the derivative of a mask by the ratio: ``'identity'``, -1 for every element
            (straight through), or ``'sigmoid'``, that of the differentiable top-k.
    """

    def __init__(
        self, sizes: Sequence[int], temperatures: Sequence[float], min_keep: Sequence[int], slope: str = 'identity'
    ) -> None:
        if slope not in SLOPES:
            raise unknown('slope', slope, SLOPES)
        self.slope = slope
        super().__init__(sizes, temperatures, min_keep)

    def _through(self, trained: Tensor) -> Tensor:
        """(N,) what is differentiated in the place of the step."""
        ratio = self.spread(trained)
        if self.slope == 'identity':
            return -ratio
        return soft_mask(self.rank + self.shift, ratio, self.spread(self.temperature.to(ratio.dtype)))

    def masks_of(self, trained: Tensor) -> Tensor:
        rank = torch.round(self.rank.double() * self.spread(self.size)).long()
        hard = rank >= self.spread(self.size - self.hard_counts(trained))
        through = self._through(trained)
        return self.shown(hard.to(through.dtype) + (through - through.detach()), self.ordered)

    @torch.no_grad()
    def chain(self, grad: Tensor) -> Tensor:
        if self.slope == 'identity':
            slope = -torch.ones_like(grad)
        else:
            through = self._through(self.trained)
            slope = -self.spread(self.temperature.to(grad.dtype)) * through * (1 - through)
        moves = self.ordered & ~self.hardened
        slope = torch.where(self.spread(moves), slope, torch.zeros_like(slope))
        return torch.zeros_like(self.ratio, requires_grad=False).index_add(0, self.segment, slope * grad)
