"""The paper's rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...registry import RULES
from .rule import Rule

if TYPE_CHECKING:
    from ..search import Search


@RULES.register_module(name=['PaperRule', 'paper'])
class PaperRule(Rule):
    """``weight * log(r_c / r_t)`` while over the target, plain SGD on the ratios with rate ``lr`` (section 3.2)."""

    def __init__(self, search: Search, lr: float = 0.01, weight: float = 1.0) -> None:
        super().__init__(search)
        self.lr, self.weight = lr, weight

    def step(self, task: Tensor) -> None:
        with torch.enable_grad():
            loss = self.search.resource_loss()
        (resource,) = torch.autograd.grad(loss, self.bank.ratio)
        with torch.no_grad():
            move = self.lr * (task + resource)
            self.bank.ratio.sub_(torch.where(self.bank.hardened, torch.zeros_like(move), move))
            self.bank.clamp()
