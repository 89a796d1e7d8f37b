"""Which counts units may keep: bounds, multiples, and ties of units that keep equally many."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Grid(nn.Module):
    """Counts ``low, low + step, ...`` of every unit up to ``high``, which is one of them whatever the step.

    Args:
        low, high, step: of each unit; with ``high`` the sizes and ``step`` 1 every count from ``low`` on may be.
        tie: for each unit the number of its tie; units of one tie have equal sizes and equal counts.
        size: elements of each unit.

    Attributes:
        plain: nothing is bounded from above, rounded or tied.
        members: for each unit those of its tie, itself among them.
        leaders: the first unit of every tie, and units without one.
    """

    def __init__(self, size: Tensor, low: Tensor, high: Tensor, step: Tensor, tie: Tensor) -> None:
        super().__init__()
        for name, value in dict(low=low, high=high, step=step, tie=tie).items():
            self.register_buffer(name, value.clone(), persistent=False)
        self.register_buffer('among', torch.bincount(tie, minlength=len(tie)).clamp_min(1), persistent=False)
        self.low: Tensor
        self.high: Tensor
        self.step: Tensor
        self.tie: Tensor
        self.among: Tensor
        numbers = tie.tolist()
        alike: dict[int, list[int]] = {}
        for unit, number in enumerate(numbers):
            alike.setdefault(number, []).append(unit)
        self.members = [alike[number] for number in numbers]
        self.leaders = [units[0] for units in alike.values()]
        self.ties = len(alike) < len(numbers)
        # Summed by rows, in one order: adding by index has none on a GPU, and ranks must agree to the last digit.
        widest = max(map(len, alike.values()), default=0)
        rows = [units + [len(numbers)] * (widest - len(units)) for units in self.members]
        self.register_buffer('rows', torch.tensor(rows, dtype=torch.long, device=tie.device), persistent=False)
        self.rows: Tensor
        self.plain = not self.ties and bool((high == size).all()) and bool((step == 1).all())
        self._bounds = list(zip(low.tolist(), high.tolist(), step.tolist()))

    def tied(self, values: Tensor) -> Tensor:
        """(U,) values, each the mean over its tie."""
        if not self.ties:
            return values
        sums = torch.cat([values, values.new_zeros(1)])[self.rows].sum(1)
        return sums / self.among.to(values.dtype).index_select(0, self.tie)

    def nearest(self, counts: Tensor) -> Tensor:
        """(U,) long, the possible counts nearest to real ones (U,), the upper one of two; equal in a tie."""
        counts = torch.minimum(torch.maximum(self.tied(counts.double()), self.low), self.high)
        below = self.low + torch.floor((counts - self.low) / self.step).long() * self.step
        below = torch.minimum(below, self.high)
        above = torch.minimum(below + self.step, self.high)
        return torch.where(counts - below >= above - counts, above, below)

    def above(self, counts: Tensor) -> Tensor:
        """(U,) long, the least possible counts that are not below these (U,)."""
        steps = torch.ceil((counts.double() - self.low) / self.step).clamp_min(0).long()
        return torch.minimum(self.low + steps * self.step, self.high)

    def level(self, unit: int, count: int) -> int:
        """How many possible counts of a unit are below this one."""
        low, _, step = self._bounds[unit]
        return -(-(count - low) // step)

    def moved(self, counts: Tensor, unit: int, steps: int) -> Tensor:
        """``counts`` (U,) with that of a unit, and of those tied to it, so many possible counts up or down."""
        low, high, step = self._bounds[unit]
        count = min(low + max(self.level(unit, int(counts[unit])) + steps, 0) * step, high)
        counts = counts.clone()
        for member in self.members[unit]:
            counts[member] = count
        return counts
