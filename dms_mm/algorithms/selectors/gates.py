"""Multiple element selection: a gate for every element."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...registry import SELECTORS
from ...topk import segment_ranks
from .derived import DrawnBank


@SELECTORS.register_module(name=['MES', 'mes'])
class MES(DrawnBank):
    """Every element stays or goes by a two-way Gumbel-softmax of its own, hard forward: (N, 2) logits of going and of
    staying (table 2).

    Args:
        start: the logit of staying, as it begins.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        temperatures: Sequence[float],
        min_keep: Sequence[int],
        start: float = 0.01,
        temperature: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(sizes, temperatures, min_keep, start, temperature, seed)

    def first_logits(self) -> Tensor:
        return torch.tensor([0.0, self.at_start]).repeat(len(self.segment), 1)

    def derive(self) -> None:
        margin = self.trained[:, 1] - self.trained[:, 0]
        self.rank = segment_ranks(margin, self.segment, self.start, self.size).to(self.mask.dtype)
        self.show_counts(self._summed(torch.sigmoid(margin)))
        self.noise = self.gumbel()

    def masks_of(self, trained: Tensor) -> Tensor:
        drawn = (trained + self.noise) / self.tau
        stays = torch.sigmoid(drawn[:, 1] - drawn[:, 0])
        hard = stays.detach() >= 0.5
        if bool((self._summed(hard) < self.min_keep).any()):
            # A layer without channels computes nothing: the likeliest of them stay.
            place = segment_ranks(drawn[:, 1] - drawn[:, 0], self.segment, self.start, self.size)
            least = 1 - (self.min_keep.to(place.dtype) + 0.5) / self.size
            hard |= place >= self.spread(least)
        return self.shown(hard.to(stays.dtype) + (stays - stays.detach()))

    def soft(self) -> Tensor:
        """(N,) probabilities to stay."""
        return self.shown(torch.sigmoid(self.trained[:, 1] - self.trained[:, 0]))

    def still(self) -> Tensor:
        return self.hardened[self.segment][:, None]
