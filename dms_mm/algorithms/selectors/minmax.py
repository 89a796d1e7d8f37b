"""The differentiable top-k without normalisation: scores in the place of ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from ...registry import SELECTORS
from ...topk import soft_mask
from .derived import DerivedBank

HIGHEST = 0.99


@SELECTORS.register_module(name=['MinMaxTopk', 'topk-minmax'])
class MinMaxTopk(DerivedBank):
    """Scores, scaled to [0, 0.99] in each unit, in the place of the ranks of eq. 2 (table 11): what is trained is a
    threshold of scores, (U,), and how many stay above it depends on how they are distributed."""

    trains = 'threshold'

    def begin(self) -> None:
        self.register_buffer('threshold', torch.zeros_like(self.ratio))

    def scaled(self) -> Tensor:
        """(N,) importances from 0 to 0.99 in each unit; 1/2 where they don't differ."""
        like = torch.zeros_like(self.size, dtype=self.importance.dtype)
        low = like.scatter_reduce(0, self.segment, self.importance, 'amin', include_self=False)
        span = self.spread(like.scatter_reduce(0, self.segment, self.importance, 'amax', include_self=False) - low)
        scaled = HIGHEST * (self.importance - self.spread(low)) / torch.where(span > 0, span, torch.ones_like(span))
        return torch.where(span > 0, scaled, torch.full_like(scaled, 0.5))

    @torch.no_grad()
    def derive(self) -> None:
        super().derive()
        ordered = self.ordered
        stays = (self.scaled() >= self.spread(self.trained)) | ~self.spread(ordered)
        self.show_counts(torch.zeros_like(self.size).index_add(0, self.segment, stays.long()))

    def masks_of(self, trained: Tensor) -> Tensor:
        lam = self.spread(self.temperature.to(trained.dtype))
        return self.shown(soft_mask(self.scaled(), self.spread(trained), lam), self.ordered)

    @torch.no_grad()
    def clamp(self) -> None:
        self.trained.clamp_(0, HIGHEST)
