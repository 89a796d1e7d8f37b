"""Single number selection: a softmax over the counts that a unit may have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...registry import SELECTORS
from .derived import DrawnBank


@SELECTORS.register_module(name=['SNS', 'sns'])
class SNS(DrawnBank):
    """A unit's count is drawn by a Gumbel-softmax over all counts from ``min_keep`` to N, hard forward; so many of its
    most important elements stay (table 2).

    Args:
        start: the logit of the full count, as it begins.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        temperatures: Sequence[float],
        min_keep: Sequence[int],
        start: float = 0.1,
        temperature: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(sizes, temperatures, min_keep, start, temperature, seed)

    def begin(self) -> None:
        choices = self.size - self.min_keep + 1
        owner = torch.repeat_interleave(torch.arange(len(self.sizes)), choices)
        first = choices.cumsum(0) - choices
        self.register_buffer('choices', choices, persistent=False)
        self.register_buffer('first', first, persistent=False)
        self.register_buffer('owner', owner, persistent=False)
        self.register_buffer('count', torch.arange(len(owner)) - (first - self.min_keep)[owner], persistent=False)
        self.first: Tensor
        self.owner: Tensor
        self.count: Tensor
        self.choices: Tensor
        super().begin()

    def first_logits(self) -> Tensor:
        return self.at_start * (self.count == self.size[self.owner]).float()

    def _likeliest(self, logits: Tensor) -> Tensor:
        """(U,) the count with the highest logit; the largest of several."""
        top = torch.zeros(len(self.size), dtype=logits.dtype, device=logits.device)
        top = top.scatter_reduce(0, self.owner, logits, 'amax', include_self=False)
        best = torch.where(logits == top[self.owner], self.count, torch.zeros_like(self.count))
        return torch.zeros_like(self.size).scatter_reduce(0, self.owner, best, 'amax', include_self=False)

    def _relaxed(self, logits: Tensor) -> Tensor:
        """(N,) the probability that each element stays, by a softmax over the counts of its unit."""
        logits = logits.double()
        top = torch.zeros(len(self.size), dtype=logits.dtype, device=logits.device)
        top = top.scatter_reduce(0, self.owner, logits.detach(), 'amax', include_self=False)
        raised = (logits - top[self.owner]).exp()
        total = torch.zeros_like(top).index_add(0, self.owner, raised)
        # A table, so that no sum goes on from one unit to the next: its rounding would reach their gradients.
        table = raised.new_zeros(len(top), int(self.choices.max()) + 1)
        place = self.count - self.min_keep[self.owner]
        summed = table.index_put((self.owner, place + 1), raised / total[self.owner]).cumsum(1)
        # An element with r less important ones beside it stays with every count of N - r at least.
        rank = torch.round(self.rank.double() * self.spread(self.size)).long()
        least = torch.maximum(self.spread(self.size) - rank - self.spread(self.min_keep), torch.zeros_like(rank))
        return summed[self.segment, self.spread(self.choices)] - summed[self.segment, least]

    def derive(self) -> None:
        super().derive()
        self.show_counts(self._summed(self._relaxed(self.trained.detach())))
        self.noise = self.gumbel()

    def masks_of(self, trained: Tensor) -> Tensor:
        drawn = (trained + self.noise) / self.tau
        stays = self._relaxed(drawn).to(trained.dtype)
        rank = torch.round(self.rank.double() * self.spread(self.size)).long()
        hard = rank >= self.spread(self.size - self._likeliest(drawn.detach()))
        return self.shown(hard.to(stays.dtype) + (stays - stays.detach()), self.ordered)

    def soft(self) -> Tensor:
        """(N,) probabilities to stay."""
        return self.shown(self._relaxed(self.trained))

    def still(self) -> Tensor:
        return self.hardened[self.owner]
