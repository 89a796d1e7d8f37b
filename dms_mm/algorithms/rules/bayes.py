"""The balanced rule with a measure of what it knows: units move as far as their signal stands out of its noise."""

from __future__ import annotations

import torch
from torch import Tensor

from ...registry import RULES
from .rule import RunningSearch
from .surface import SurfaceRule


@RULES.register_module(name=['BayesRule', 'bayes'])
class BayesRule(SurfaceRule):
    """Along the budget's surface like :class:`BalancedRule`, by empirical Bayes.

    A unit moves by ``v_u * c_u / S``: its averaged loss per nat of the resource ``v_u``, of the spread ``S`` over the
    units, times its confidence ``c_u`` (:class:`~.confidence.Confidence`). Where nothing stands out of the noise, the
    structure stays at uniform scaling.

    Args:
        travel: bounds the way that a width can go, in nats.
        clip: of a unit's direction, in spreads.
        floor: share of every width that is kept, so that no layer is strangled; given up where the target needs less.
    """

    def __init__(self, search: RunningSearch, travel: float = 1.5, clip: float = 2.0, floor: float = 0.05) -> None:
        super().__init__(search, travel, clip, floor)

    @torch.no_grad()
    def step(self, task: Tensor) -> None:
        surface, _ = self.see(task)
        v, spread, confidence = self.known.judged(surface.weight)
        self.go(surface, v * confidence / spread.sqrt().clamp_min(1e-15))
