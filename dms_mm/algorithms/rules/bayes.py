"""The balanced rule with a measure of what it knows: units move as far as their signal stands out of its noise."""

from __future__ import annotations

import torch
from torch import Tensor

from ...registry import RULES
from ..budget import floor_counts
from .rule import Rule, RunningSearch
from .surface import Surface, falling_rate


@RULES.register_module(name=['BayesRule', 'bayes'])
class BayesRule(Rule):
    """Along the budget's surface like :class:`BalancedRule`, by empirical Bayes.

    The loss per nat of the resource, centred over the units, is averaged with weights that grow linearly with the
    step, so over about the last half of all steps. ``v_u`` is that average, ``s_u`` its standard error from the running
    variance, ``S`` the spread of the averages over the units and ``tau^2`` what of ``S^2`` is no noise: what is above
    mean ``s^2`` and one standard deviation of what noise alone would show. A unit moves by ``v_u * c_u / S`` with its
    confidence ``c_u = tau^2 / (tau^2 + s_u^2)``: where nothing stands out of the noise, the structure stays at uniform
    scaling.

    Args:
        travel: bounds the way that a width can go, in nats.
        clip: of a unit's direction, in spreads.
        floor: share of every width that is kept, so that no layer is strangled; given up where the target needs less.

    Attributes:
        confidence: (U,) ``c_u`` at the newest step, 0 before the first.
    """

    def __init__(self, search: RunningSearch, travel: float = 1.5, clip: float = 2.0, floor: float = 0.05) -> None:
        super().__init__(search)
        self.travel, self.clip = travel, clip
        self.low = floor_counts(search.space, search.targets, floor)
        zeros = torch.zeros_like(self.bank.ratio, dtype=torch.float32)
        for name in ('average', 'variance', 'confidence'):
            self.bank.remember(name, zeros)
        self.bank.remember('averaged', torch.zeros((), dtype=torch.long))

    @property
    def confidence(self) -> Tensor:
        return self.bank.get_buffer('confidence')

    @torch.no_grad()
    def step(self, task: Tensor) -> None:
        surface = Surface(self.search)
        value = surface.per_budget(task)
        v, error = self._averaged(value - surface.mean(value))
        v = v - surface.mean(v)
        spread = surface.mean(v.square())
        signal = (spread - surface.mean(error) * (1 + surface.chance())).clamp_min(0)
        confidence = signal / (signal + error).clamp_min(1e-30)
        self.confidence.copy_(confidence * surface.free)
        direction = v * confidence / spread.sqrt().clamp_min(1e-15)
        rate = falling_rate(self.search, self.travel)
        surface.land(-rate * direction.clamp(-self.clip, self.clip), self.low)

    def _averaged(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """(U,) the average with this step's ``value`` (U,), and (U,) its squared standard error; float64."""
        average, variance, steps = (self.bank.get_buffer(name) for name in ('average', 'variance', 'averaged'))
        steps += 1
        n = int(steps)
        weight = 2 / (n + 1)  # of the n-th among weights that grow linearly
        change = value - average.double()
        mean = average.double() + weight * change
        var = (1 - weight) * (variance.double() + weight * change.square())
        average.copy_(mean)
        variance.copy_(var)
        # Kish's number of equally weighted steps, less the one that the mean takes.
        freedom = 3 * n * (n + 1) / (2 * (2 * n + 1)) - 1
        error = var / freedom if n > 1 else torch.full_like(mean, 1e30)  # one value tells nothing of its noise
        return mean, error
