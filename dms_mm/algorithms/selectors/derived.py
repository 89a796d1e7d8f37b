"""What selectors have in common that train other numbers than the share of each unit that goes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...topk import TopkBank


class DerivedBank(TopkBank):
    """Counts are the sums of masks, and gradients of what is trained come from :meth:`masks_of` by autograd."""

    @torch.no_grad()
    def chain(self, grad: Tensor) -> Tensor:
        with torch.enable_grad():
            trained = self.trained.detach().requires_grad_()
            masks = self.masks_of(trained)
            if not masks.requires_grad:
                return torch.zeros_like(trained)
            (found,) = torch.autograd.grad(masks, trained, grad)
        return found

    def soft_counts(self) -> Tensor:
        hard, soft = self.hard_counts().double(), self._summed(self.soft())
        return torch.where(self.hardened, hard, hard + (soft - soft.detach()))

    @torch.no_grad()
    def show_counts(self, counts: Tensor) -> None:
        """Set the ratios to what ``counts`` (U,) say, within bounds, equal in a tie."""
        kept = torch.minimum(torch.maximum(self.grid.tied(counts.double()), self.min_keep), self.grid.high)
        self.ratio.copy_(1 - kept.double() / self.size)

    def _summed(self, values: Tensor) -> Tensor:
        """(U,) float64, the sum of (N,) values over each unit."""
        zero = torch.zeros(len(self.size), dtype=torch.float64, device=values.device)
        return zero.index_add(0, self.segment, values.double())

    def clamp(self) -> None:
        """Nothing: logits are not bounded."""


class DrawnBank(DerivedBank):
    """Masks are drawn anew in every step, by noise that is a function of a seed and the number of the step alone: the
    same on all ranks and devices, and after a resume.

    What counts for the budget, and as the present structure, are the expected counts: rounded, with the likeliest of
    the elements. So a search begins near half of every width.

    Args:
        temperature: of the softmax whose derivative stands for the one of the draw.
        seed: of the noise; kept in the checkpoint.
    """

    trains = 'logits'

    def __init__(
        self,
        sizes: Sequence[int],
        temperatures: Sequence[float],
        min_keep: Sequence[int],
        start: float,
        temperature: float = 0.1,
        seed: int = 0,
    ) -> None:
        if not temperature > 0:
            raise ValueError(f'temperature={temperature!r} of the selector must be above 0')
        # Before the bank is made, which begins with these.
        self.at_start, self.tau, self.first_seed = float(start), float(temperature), int(seed)
        super().__init__(sizes, temperatures, min_keep)

    def begin(self) -> None:
        self.register_buffer('seed', torch.tensor(self.first_seed))
        self.register_buffer('logits', self.first_logits())

    def first_logits(self) -> Tensor:
        """What is trained, as it begins."""
        raise NotImplementedError

    def gumbel(self) -> Tensor:
        """Gumbel noise of the shape of what is trained, for the present step."""
        generator = torch.Generator().manual_seed(int(self.get_buffer('seed')) * 1_000_003 + int(self.steps))
        trained = self.trained
        noise = torch.empty(trained.shape, dtype=torch.float64).exponential_(generator=generator).log().neg()
        return noise.to(trained.device, trained.dtype)

    def soft_counts(self) -> Tensor:
        return self._summed(self.soft())

    def soft_keep(self) -> Tensor:
        return self.soft().double()

    def showing(self) -> Tensor:
        return self.mask >= 0.5
