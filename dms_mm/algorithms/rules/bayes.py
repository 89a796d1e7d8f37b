"""The balanced rule with a measure of what it knows: units move as far as their signal stands out of its noise."""

from __future__ import annotations

import torch
from torch import Tensor

from ...registry import RULES
from .average import Average
from .rule import RunningSearch
from .surface import SurfaceRule


@RULES.register_module(name=['BayesRule', 'bayes'])
class BayesRule(SurfaceRule):
    """Along the budget's surface like :class:`BalancedRule`, by empirical Bayes.

    The loss per nat of the resource, centred over the units, is averaged with weights that grow linearly with the
    step, so over about the last half of all steps. ``v_u`` is that average, ``s_u`` its standard error, ``S`` the
    spread of the averages over the units and ``tau^2`` what of ``S^2`` is no noise: what is above mean ``s^2`` and one
    standard deviation of what noise alone would show. A unit moves by ``v_u * c_u / S`` with ``c_u = tau^2 / (tau^2 +
    s_u^2)``: where nothing stands out of the noise, the structure stays at uniform scaling.

    Args:
        travel: bounds the way that a width can go, in nats.
        clip: of a unit's direction, in spreads.
        floor: share of every width that is kept, so that no layer is strangled; given up where the target needs less.
    """

    def __init__(self, search: RunningSearch, travel: float = 1.5, clip: float = 2.0, floor: float = 0.05) -> None:
        super().__init__(search, travel, clip, floor)
        self.average = Average(self.bank, 'average')

    @torch.no_grad()
    def step(self, task: Tensor) -> None:
        surface, value = self.see(task)
        self.average.add(value, self.average.steps + 1)
        v, error = self.average.told()
        v = v - surface.mean(v)
        spread = surface.mean(v.square())
        signal = (spread - surface.mean(error) * (1 + surface.chance())).clamp_min(0)
        known = signal / (signal + error).clamp_min(1e-30)
        self.go(surface, v * known / spread.sqrt().clamp_min(1e-15))
