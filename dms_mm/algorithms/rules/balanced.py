"""The balanced rule: along the budget's surface, from uniform scaling to where the task says."""

from __future__ import annotations

import torch
from torch import Tensor

from ...registry import RULES
from .rule import RunningSearch
from .surface import SurfaceRule


@RULES.register_module(name=['BalancedRule', 'balanced'])
class BalancedRule(SurfaceRule):
    """With ``theta = -log(1 - a)`` every unit's smoothed task gradient is divided by the share of the resource that the
    unit takes part in, centred, scaled to unit spread and followed along the budget's surface; a common shift of all
    ``theta`` (uniform scaling) then lands on the scheduled target exactly. Needs no multiplier and no learning rate.

    Args:
        travel: bounds the way that a width can go, in nats.
        momentum: of the moving average of the gradient.
        clip: of a unit's direction, in spreads.
        floor: share of every width that is kept, so that no layer is strangled; given up where the target needs less.
    """

    def __init__(
        self, search: RunningSearch, travel: float = 1.5, momentum: float = 0.98, clip: float = 2.0, floor: float = 0.05
    ) -> None:
        super().__init__(search, travel, clip, floor)
        self.momentum = momentum
        self.bank.remember('velocity', torch.zeros_like(self.bank.ratio))

    @torch.no_grad()
    def step(self, task: Tensor) -> None:
        surface, value = self.see(task)
        velocity = self.bank.get_buffer('velocity')
        velocity.mul_(self.momentum).add_(value.to(velocity.dtype), alpha=1 - self.momentum)
        v = velocity.double()
        v = v - surface.mean(v)
        self.go(surface, v / surface.spread(v))
