"""What a search knows of every unit: its averaged signal against its own standard error."""

from __future__ import annotations

import torch
from torch import Tensor

from ...topk import TopkBank

UNKNOWN = -1.0  # of a unit that nothing was seen of


class Confidence:
    """Averages of what the units tell in each step, how far noise alone moves them, and what is left as signal.

    A step's values are averaged with weights that grow linearly with the step, so over about the last half of all
    steps. ``v_u`` is that average, ``s_u`` its standard error from the running variance, ``S`` the spread of the
    averages over the units and ``tau^2`` what of ``S^2`` is no noise: what is above mean ``s^2`` and one standard
    deviation of what noise alone would show. A unit's confidence is ``tau^2 / (tau^2 + s_u^2)`` (empirical Bayes), the
    part of what is seen of it that is signal: 1 where the search knows, 0 where it sees noise.

    All sums are kept in the bank, and so in checkpoints.
    """

    def __init__(self, bank: TopkBank) -> None:
        self.bank = bank
        zeros = torch.zeros_like(bank.ratio, dtype=torch.float64)
        for name in ('signal_mean', 'signal_variance'):
            bank.remember(name, zeros)
        bank.remember('signal_steps', torch.zeros((), dtype=torch.long))
        bank.remember('confidence', zeros + UNKNOWN)

    @torch.no_grad()
    def add(self, value: Tensor) -> None:
        """A step's ``value`` (U,) float64, less what is common to all units."""
        mean, variance, steps = self._sums()
        steps += 1
        weight = 2 / (int(steps) + 1)  # of the n-th among weights that grow linearly
        change = value - mean
        mean.add_(change, alpha=weight)
        variance.addcmul_(change, change, value=weight).mul_(1 - weight)

    def _sums(self) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance, steps = (self.bank.get_buffer(f'signal_{name}') for name in ('mean', 'variance', 'steps'))
        return mean, variance, steps

    @torch.no_grad()
    def judged(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(U,) the averages, centred, () their squared spread, and (U,) the confidence of every unit.

        Args:
            weight: (U,) float64, of the units in means over them; they sum to one.
        """
        mean, variance, steps = self._sums()
        v = mean.double() - weight @ mean.double()
        spread = weight @ v.square()
        n = int(steps)
        if n < 2:  # one value tells nothing of its noise
            return v, spread, torch.zeros_like(v)
        # Kish's number of equally weighted steps, less the one that the mean takes.
        error = variance.double() / (3 * n * (n + 1) / (2 * (2 * n + 1)) - 1)
        chance = (2 * weight.square().sum()).sqrt()  # relative deviation of a spread of so many independent numbers
        signal = (spread - (weight @ error) * (1 + chance)).clamp_min(0)
        return v, spread, signal / (signal + error).clamp_min(1e-30)

    @torch.no_grad()
    def of(self, weight: Tensor) -> Tensor:
        """(U,) confidence of every unit, :data:`UNKNOWN` where nothing was seen; units that are hard keep what they
        had when they became so."""
        kept = self.bank.get_buffer('confidence')
        if int(self._sums()[2]) > 1:
            kept.copy_(torch.where(self.bank.hardened, kept, self.judged(weight)[2].to(kept.dtype)))
        return kept
