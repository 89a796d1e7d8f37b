"""The budget's surface: which way along it is down, and back onto it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .crossing import crossing
from .rule import RunningSearch

TENTH = 0.1  # of an even share: cheaper units would turn noise into leaps


class Surface:
    """The ratios at which every resource meets its scheduled target, seen from the present ones.

    With ``theta = -log(1 - a)`` a step of all widths by one number is uniform scaling.

    Attributes:
        share: (U,) float64 ``d log(r)/d(-theta)``, the part of the resource furthest above its goal that each unit
            takes part in.
        free: (U,) bool, units that move: none that is hardened.
    """

    def __init__(self, search: RunningSearch) -> None:
        self.bank = search.bank
        self.goals = {name: search.goal(name) for name in search.targets}
        self.counts = {name: search.space.counters[name].surface(self.bank) for name in search.targets}
        self.free = ~self.bank.hardened
        self.share = self._share()

    def _share(self) -> Tensor:
        worst: tuple[Tensor, float] | None = None
        for name, count in self.counts.items():
            with torch.enable_grad():
                ratio = self.bank.ratio.detach().double().requires_grad_()
                value = count(ratio)
                (grad,) = torch.autograd.grad(torch.log(value), ratio)
            gap = math.log(float(value.detach())) - math.log(self.goals[name])
            if worst is None or gap > worst[1]:
                worst = (-grad * (1 - ratio.detach()), gap)
        assert worst is not None
        return worst[0].clamp_min(0)

    def per_budget(self, task: Tensor) -> Tensor:
        """(U,) float64, ``d(task loss)/d(-theta)`` for each unit over its share: loss per nat of the resource."""
        even = self.share.sum() / max(len(self.share), 1)
        return task.double() * (1 - self.bank.ratio).double() / torch.maximum(self.share, TENTH * even)

    def mean(self, values: Tensor) -> Tensor:
        """() mean of (U,) values of the free units, weighted by their shares."""
        weight = torch.where(self.free, self.share, torch.zeros_like(self.share))
        return (weight * values).sum() / weight.sum().clamp_min(1e-12)

    def chance(self) -> float:
        """Relative standard deviation of the spread of as many independent numbers as there are free units."""
        weight = torch.where(self.free, self.share, torch.zeros_like(self.share))
        return math.sqrt(2 * float(weight.square().sum() / weight.sum().square().clamp_min(1e-12)))

    @torch.no_grad()
    def land(self, move: Tensor, low: Tensor) -> None:
        """Move ``theta`` of the free units by ``move`` (U,), and all of them by one number more, so that the continuous
        resource meets the scheduled target; none keeps less than ``low`` (U,)."""
        bank = self.bank
        theta = -torch.log((1 - bank.ratio).double().clamp_min(1e-6)) + move * self.free
        # A stage that lost its last block must be able to come back, so its ratio stays just short of one.
        high = 1 - low.double().clamp_min(0.25) / bank.size.double()
        still = bank.ratio.double()

        def ratio(shift: float) -> Tensor:
            a = 1 - torch.exp(-(theta + shift))
            a = torch.minimum(a.clamp_min(0), high)
            return torch.where(self.free, a, still)

        def gap(shift: float) -> float:
            a = ratio(shift)
            return max(math.log(float(count(a)) / self.goals[name]) for name, count in self.counts.items())

        # Units at a bound stay there for a while.
        slope = -float((self.share * (self.free & (theta > 0))).sum())
        bank.ratio.copy_(ratio(crossing(gap, slope)))


def falling_rate(search: RunningSearch, travel: float) -> float:
    """Step in nats: the whole way sums to ``travel``, falling to zero at the end (half cosine)."""
    begin = search.warmup * search.total_steps
    span = max(search.total_steps - begin, 1.0)
    x = min(max((search.steps - begin) / span, 0.0), 1.0)
    return travel / span * (1 + math.cos(math.pi * x))
