"""When a search warms up, how its target falls, and when only widths are left."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Phases of a search, by the number of steps so far.

    Args:
        total_steps: of the whole search.
        warmup: share of the steps that train weights and importance alone.
        ramp: share of the steps, after the warm-up, in which the target falls (eq. 10).
        widths_only: share of the steps at the end in which blocks and heads are hard.
        epochs: the schedule goes by so many equal parts, as in the authors' script: each begins with a new target, the
            first one too, and the last target comes after ``ramp * (epochs - 1)`` of them, rounded down. Four parts and
            a ramp of 0.8 have the targets ``r^(1/2), r, r, r``. ``widths_only`` is at least one part.

    Raises:
        ValueError: a share outside of [0, 1], or no steps or parts.
    """

    total_steps: int
    warmup: float
    ramp: float
    widths_only: float
    epochs: int | None = None

    def __post_init__(self) -> None:
        for name in ('warmup', 'ramp', 'widths_only'):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f'{name}={value!r} of the search must be a number from 0 to 1')
        if self.total_steps < 1:
            raise ValueError('total_steps must be at least 1')
        if self.epochs is not None and (not isinstance(self.epochs, int) or self.epochs < 1):
            raise ValueError(f'epochs={self.epochs!r} of the search must be a whole number of at least 1')

    def _epoch(self, steps: int) -> int:
        assert self.epochs is not None
        return steps * self.epochs // self.total_steps

    def warms(self, steps: int) -> bool:
        """Every mask shows one."""
        if self.epochs is not None:
            return self._epoch(steps) < round(self.warmup * self.epochs)
        return self.warmup > 0 and steps / self.total_steps <= self.warmup

    def moves(self, steps: int) -> bool:
        """The rule moves the structure in this step."""
        if self.epochs is not None:
            return not self.warms(steps)
        return steps / self.total_steps >= self.warmup

    def done(self, steps: int) -> float:
        """How much of the way to the target is scheduled, from 0 to 1: ``e / e_max`` of eq. 10."""
        if self.epochs is not None:
            number = self._epoch(steps) + 1 - round(self.warmup * self.epochs)
            done = number / max(1, math.floor(self.ramp * (self.epochs - 1) + 1e-9))
        else:
            progress = steps / self.total_steps
            done = (progress - self.warmup) / self.ramp if self.ramp > 0 else float(progress >= self.warmup)
        return min(max(done, 0.0), 1.0)

    def hard(self, steps: int) -> bool:
        """Blocks and heads are hard."""
        if self.epochs is not None and self.widths_only > 0:
            return self._epoch(steps) >= self.epochs - max(1, round(self.widths_only * self.epochs))
        return steps / self.total_steps >= 1 - self.widths_only
