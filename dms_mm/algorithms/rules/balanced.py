"""The balanced rule: along the budget's surface, from uniform scaling to where the task says."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...registry import RULES
from ..budget import floor_counts
from .crossing import crossing
from .rule import Rule, RunningSearch

Surfaces = dict[str, Callable[[Tensor], Tensor]]  # resource -> its count at ratios (U,)


@RULES.register_module(name=['BalancedRule', 'balanced'])
class BalancedRule(Rule):
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
        super().__init__(search)
        self.travel, self.momentum, self.clip = travel, momentum, clip
        self.low = floor_counts(search.space, search.targets, floor)
        self.bank.remember('velocity', torch.zeros_like(self.bank.ratio))

    def _log_gradient(self, surfaces: Surfaces) -> tuple[Tensor, Tensor]:
        """(U,) shares ``-d log(r)/d theta`` of the resource furthest above its goal; (U,) bool, units that move."""
        worst: tuple[Tensor, float] | None = None
        for name, surface in surfaces.items():
            ratio = self.bank.ratio.detach().double().requires_grad_()
            value = surface(ratio)
            (grad,) = torch.autograd.grad(torch.log(value), ratio)
            gap = math.log(float(value.detach())) - math.log(self.search.goal(name))
            if worst is None or gap > worst[1]:
                worst = (-grad * (1 - ratio.detach()), gap)
        assert worst is not None
        return worst[0].clamp_min(0), ~self.bank.hardened

    @torch.no_grad()
    def step(self, task: Tensor) -> None:
        bank = self.bank
        surfaces = {name: self.search.space.counters[name].surface(bank) for name in self.search.targets}
        with torch.enable_grad():
            share, free = self._log_gradient(surfaces)
        keep = (1 - bank.ratio).double()
        # Cheap units would turn noise into leaps: their share is floored at a tenth of an even one.
        floor = 0.1 * share.sum() / max(len(share), 1)
        value = task.double() * keep / torch.maximum(share, floor)
        velocity = bank.get_buffer('velocity')
        velocity.mul_(self.momentum).add_(value.to(velocity.dtype), alpha=1 - self.momentum)
        v = velocity.double()
        weight = torch.where(free, share, torch.zeros_like(share))
        total = weight.sum().clamp_min(1e-12)
        v = v - (weight * v).sum() / total
        spread = ((weight * v.square()).sum() / total).sqrt().clamp_min(1e-12)
        rate = self._rate()
        move = (-rate * (v / spread).clamp(-self.clip, self.clip)) * free
        theta = -torch.log(keep.clamp_min(1e-6)) + move
        self._land(theta, free, surfaces, -float(total))

    def _rate(self) -> float:
        """Step in nats: the whole way sums to ``travel``, falling to zero at the end (half cosine)."""
        search = self.search
        begin = search.warmup * search.total_steps
        span = max(search.total_steps - begin, 1.0)
        x = min(max((search.steps - begin) / span, 0.0), 1.0)
        return self.travel / span * (1 + math.cos(math.pi * x))

    @torch.no_grad()
    def _land(self, theta: Tensor, free: Tensor, surfaces: Surfaces, slope: float) -> None:
        """Shift all free ``theta`` by one number so that the continuous resource meets the scheduled target."""
        bank = self.bank
        # A stage that lost its last block must be able to come back, so its ratio stays just short of one.
        high = 1 - self.low.double().clamp_min(0.25) / bank.size.double()

        still = bank.ratio.double()
        goals = {name: self.search.goal(name) for name in surfaces}

        def ratio(shift: float) -> Tensor:
            a = 1 - torch.exp(-(theta + shift))
            a = torch.minimum(a.clamp_min(0), high)
            return torch.where(free, a, still)

        def gap(shift: float) -> float:
            a = ratio(shift)
            return max(math.log(float(surface(a)) / goals[name]) for name, surface in surfaces.items())

        bank.ratio.copy_(ratio(crossing(gap, slope)))
