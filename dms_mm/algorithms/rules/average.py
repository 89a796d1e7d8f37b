"""Averages of what the units tell, and how far noise alone moves them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...topk import TopkBank


class Average:
    """A weighted average over the steps and its standard error, for every unit; kept in the bank under ``name``."""

    def __init__(self, bank: TopkBank, name: str) -> None:
        self.bank, self.name = bank, name
        zeros = torch.zeros_like(bank.ratio, dtype=torch.float64)
        bank.remember(f'{name}_mean', zeros)
        bank.remember(f'{name}_variance', zeros)
        bank.remember(f'{name}_weights', torch.zeros(2, dtype=torch.float64))  # their sum, and sum of squares
        # A whole number, which no cast of the model stops.
        bank.remember(f'{name}_steps', torch.zeros((), dtype=torch.long))

    def _sums(self) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance, weights = (self.bank.get_buffer(f'{self.name}_{x}') for x in ('mean', 'variance', 'weights'))
        return mean, variance, weights

    @property
    def steps(self) -> int:
        return int(self.bank.get_buffer(f'{self.name}_steps'))

    @torch.no_grad()
    def add(self, value: Tensor, weight: float) -> None:
        """A step's ``value`` (U,) float64."""
        mean, variance, weights = self._sums()
        weights += weights.new_tensor([weight, weight * weight])
        self.bank.get_buffer(f'{self.name}_steps').add_(1)
        part = weight / max(float(weights[0]), 1e-30)
        change = value - mean
        mean.add_(change, alpha=part)
        variance.addcmul_(change, change, value=part).mul_(1 - part)

    @torch.no_grad()
    def told(self) -> tuple[Tensor, Tensor]:
        """(U,) the average, and (U,) its squared standard error, float64."""
        mean, variance, weights = self._sums()
        total, squares = weights.tolist()
        # Kish's number of equally weighted steps, less the one that the mean takes.
        freedom = total * total / max(squares, 1e-30) - 1
        if self.steps < 2 or freedom <= 0:  # one value tells nothing of its noise
            return mean.double(), torch.full_like(mean, 1e30, dtype=torch.float64)
        return mean.double(), variance.double() / freedom
