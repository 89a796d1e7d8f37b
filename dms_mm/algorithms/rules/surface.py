"""The budget's surface: which way along it is down, and back onto it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..budget import floor_counts
from .average import Average
from .crossing import MOST, crossing
from .rule import Rule, RunningSearch

UNSEEN = -1.0  # confidence in a unit that nothing was seen of
NEAR = 1e-4  # of a goal, by which a resource that meets it is below
TENTH = 0.1  # of an even share: cheaper units would turn noise into leaps


class Surface:
    """The ratios at which every resource meets its scheduled target, seen from the present ones.

    With ``theta = -log(1 - a)`` a step of all widths by one number is uniform scaling.

    Attributes:
        share: (U,) float64 ``d log(r)/d(-theta)``, the part of the resource furthest above its goal that each unit
            takes part in; where parts have budgets, of that which the unit has a part in itself.
        group: (U,) which resource that is, if parts have budgets.
        free: (U,) bool, units that move: none that is hardened.
        weight: (U,) float64, of the free units by their shares, zero for the others; they sum to one in each group.
    """

    def __init__(self, search: RunningSearch) -> None:
        self.bank = search.bank
        self.goals = {name: search.goal(name) for name in search.targets}
        self.counts = {name: search.space.counters[name].surface(self.bank) for name in search.targets}
        self.free = ~self.bank.hardened
        self.group: Tensor | None = None
        self.share = self._share()
        weight = self.share * self.free
        # On a plateau of the resource nothing that is free tells: all count alike.
        flat = self._total(weight) <= 0
        self.share = torch.where(flat, self.free.double(), self.share)
        weight = torch.where(flat, self.free.double(), weight)
        self.weight = weight / self._total(weight).clamp_min(1e-12)

    @property
    def of_parts(self) -> bool:
        return any('/' in name for name in self.goals)

    def _share(self) -> Tensor:
        shares, gaps = [], []
        for name, count in self.counts.items():
            with torch.enable_grad():
                ratio = self.bank.ratio.detach().double().requires_grad_()
                value = count(ratio)
                (grad,) = torch.autograd.grad(torch.log(value), ratio)
            shares.append(self.bank.grid.tied((-grad * (1 - ratio.detach())).clamp_min(0)))
            if len(self.counts) == 1 and not self.of_parts:
                return shares[0]
            gaps.append(math.log(float(value.detach())) - math.log(self.goals[name]))
        if not self.of_parts:
            return shares[max(range(len(gaps)), key=lambda k: gaps[k])]
        each = torch.stack(shares)
        gap = torch.tensor(gaps, dtype=each.dtype, device=each.device)[:, None]
        self.group = torch.where(each > 0, gap, -torch.inf).argmax(0)
        return each.gather(0, self.group[None])[0]

    def _total(self, values: Tensor) -> Tensor:
        """() or, for each unit the sum over its group, (U,)."""
        if self.group is None:
            return values.sum()
        # By a product: adding by index has no order on a GPU, and ranks must agree to the last digit.
        return (self.group[:, None] == self.group).to(values.dtype) @ values

    def per_budget(self, task: Tensor) -> Tensor:
        """(U,) float64, ``d(task loss)/d(-theta)`` for each unit over its share: loss per nat of the resource."""
        even = self.share.sum() / max(len(self.share), 1)
        task = self.bank.grid.tied(task.double())
        return task * (1 - self.bank.ratio).double() / torch.maximum(self.share, TENTH * even)

    def mean(self, values: Tensor) -> Tensor:
        """() mean of (U,) values of the free units, weighted by their shares; (U,) those of groups, if there are."""
        return self.weight @ values if self.group is None else self._total(self.weight * values)

    def chance(self) -> Tensor:
        """() relative standard deviation of the spread of as many independent numbers as there are free units."""
        return (2 * self._total(self.weight.square())).sqrt()

    def spread(self, values: Tensor) -> Tensor:
        """() of centred (U,) values of the free units, weighted by their shares; above 0."""
        return self.mean(values.square()).sqrt().clamp_min(1e-12)

    @torch.no_grad()
    def land(self, move: Tensor, low: Tensor) -> None:
        """Move ``theta`` of the free units by ``move`` (U,), and all of them by one number more, so that the continuous
        resource meets the scheduled target; none keeps less than ``low`` (U,)."""
        bank = self.bank
        theta = -torch.log((1 - bank.ratio).double().clamp_min(1e-6)) + move * self.free
        # A stage that lost its last block must be able to come back, so its ratio stays just short of one.
        high = 1 - low.double().clamp_min(0.25) / bank.size.double()
        least = 1 - bank.grid.high.double() / bank.size.double()
        still = bank.ratio.double()

        shift, free, names = torch.zeros_like(theta), self.free, list(self.counts)

        def ratio(further: float) -> Tensor:
            a = 1 - torch.exp(-(theta + torch.where(free, shift + further, shift)))
            a = torch.minimum(torch.maximum(a, least), high)
            return torch.where(self.free, a, still)

        def gap(further: float) -> float:
            a = ratio(further)
            return max(math.log(float(self.counts[name](a)) / self.goals[name]) for name in names)

        # Units at a bound stay there for a while.
        slope = -float((self.share * (free & (theta > -torch.log1p(-least)))).sum())
        found = crossing(gap, slope)
        while self.of_parts:
            # What has no part in a budget that is met goes on until another one is, or to all that it has.
            shift, a = torch.where(free, shift + found, shift), ratio(found)
            met = [name for name in names if float(self.counts[name](a)) > (1 - NEAR) * self.goals[name]]
            free = free & ~self._members(met, a)
            names = [name for name in names if name not in met]
            if not met or not bool(free.any()):
                found = 0.0
                break
            found = crossing(gap) if names else -MOST
        bank.ratio.copy_(ratio(found))

    def _members(self, names: list[str], ratio: Tensor) -> Tensor:
        """(U,) bool: units that any of these resources depends on."""
        found = torch.zeros_like(self.free)
        for name in names:
            with torch.enable_grad():
                ratio = ratio.detach().requires_grad_()
                found |= torch.autograd.grad(self.counts[name](ratio), ratio)[0] != 0
        return self.bank.grid.tied(found.double()) > 0


def falling_rate(search: RunningSearch, travel: float) -> float:
    """Step in nats: the whole way sums to ``travel``, falling to zero at the end (half cosine)."""
    begin = search.warmup * search.total_steps
    span = max(search.total_steps - begin, 1.0)
    x = min(max((search.steps - begin) / span, 0.0), 1.0)
    return travel / span * (1 + math.cos(math.pi * x))


class SurfaceRule(Rule):
    """A rule that goes along the budget's surface, and measures on its way what it knows.

    In each step what the task says of the units is centred, scaled to unit spread, and averaged over all steps as these
    move the widths: with the falling rate for weights. With that average ``v_u`` and its standard error ``s_u`` the
    confidence in a unit is ``1 - s_u^2 / v_u^2``, 0 where that is negative: the part of what was seen of it that is no
    noise.

    Args:
        travel: bounds the way that a width can go, in nats.
        clip: of a unit's direction, in spreads.
        floor: share of every width that is kept, so that no layer is strangled; given up where the target needs less.
    """

    def __init__(self, search: RunningSearch, travel: float, clip: float, floor: float) -> None:
        self.travel, self.clip, self.floor = travel, clip, floor
        super().__init__(search)
        self.seen = Average(self.bank, 'seen')
        self.bank.remember('confidence_held', torch.full_like(self.bank.ratio, UNSEEN, requires_grad=False))

    def lowest(self, targets: Mapping[str, float]) -> Tensor:
        return floor_counts(self.search.space, targets, self.floor)

    def see(self, task: Tensor) -> tuple[Surface, Tensor]:
        """The surface from here, and (U,) float64 what the task says of every unit in this step, centred."""
        surface = Surface(self.search)
        value = surface.per_budget(task)
        value = value - surface.mean(value)
        self.seen.add(value / surface.spread(value), falling_rate(self.search, 1.0))
        return surface, value

    def go(self, surface: Surface, direction: Tensor) -> None:
        """A step against ``direction`` (U,), in spreads, as long as the schedule says."""
        rate = falling_rate(self.search, self.travel)
        surface.land(-rate * direction.clamp(-self.clip, self.clip), self.low)

    @property
    def confidence(self) -> Tensor:
        """(U,) from 0 to 1, -1 where nothing was seen; units that are hard keep what they had when they became so."""
        held = self.bank.get_buffer('confidence_held')
        if self.seen.steps < 2:
            return held
        mean, error = self.seen.told()
        now = ((mean.square() - error) / mean.square().clamp_min(1e-30)).clamp_min(0)
        return torch.where(self.bank.hardened, held, now.to(held.dtype))

    def hold_confidence(self) -> None:
        self.bank.get_buffer('confidence_held').copy_(self.confidence)
