"""The paper's rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...registry import RULES
from .optimizer import StructureOptimizer
from .rule import Rule, RunningSearch


@RULES.register_module(name=['PaperRule', 'paper'])
class PaperRule(Rule):
    """``weight * log(r_c / r_t)`` while over the target, and an optimizer that trains the structure (section 3.2), at a
    constant rate and without weight decay. It trains whatever a selector has.

    Args:
        lr: rate; 0.01 unless the optimizer brings one. Rates of table 15 (5e-4 to 5e-2) are those of SGD.
        weight: of the resource loss.
        optimizer: ``'SGD'``, or ``dict(type=..., option=...)``. That of the authors' script is
            ``dict(type='RMSpropTF', lr=2e-5, alpha=0.9, eps=1e-3, momentum=0.9)``: each gradient is divided by its own
            running size, so that 6,000 steps go as far as about 1.3; with SGD the same rate moves nothing.
    """

    any_selector = True

    def __init__(
        self,
        search: RunningSearch,
        lr: float | None = None,
        weight: float = 1.0,
        optimizer: str | Mapping[str, Any] = 'SGD',
    ) -> None:
        super().__init__(search)
        self.weight = weight
        self.optimizer = StructureOptimizer(self.bank, optimizer, lr)

    def step(self, task: Tensor) -> None:
        with torch.enable_grad():
            loss = self.search.resource_loss()
        if loss.requires_grad:
            (resource,) = torch.autograd.grad(loss, self.bank.trained)
            task = task + resource
        self.optimizer.step(task)
