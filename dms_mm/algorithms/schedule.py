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
        legs: several budgets on one way: the part of the ramp that leads to each of them.
        hold: share of the steps that the target stays at every budget but the last, which has what is left. None: the
            steps that neither warm up, nor fall, nor are for widths alone, in equal parts.

    Raises:
        ValueError: a share outside of [0, 1], no steps or parts, or more than all steps.
    """

    total_steps: int
    warmup: float
    ramp: float
    widths_only: float
    epochs: int | None = None
    legs: tuple[float, ...] = (1.0,)
    hold: float | None = None

    def __post_init__(self) -> None:
        for name in ('warmup', 'ramp', 'widths_only'):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f'{name}={value!r} of the search must be a number from 0 to 1')
        if self.hold is not None and not (isinstance(self.hold, (int, float)) and 0 <= self.hold <= 1):
            raise ValueError(f'hold={self.hold!r} of the search must be a number from 0 to 1')
        if len(self.legs) > 1 and self.warmup + self.window + self.widths_only > 1 + 1e-9:
            raise ValueError(
                f'warmup {self.warmup:g}, ramp {self.ramp:g}, {len(self.legs) - 1} times hold {self.held:g} and '
                f'widths_only {self.widths_only:g} are more than all steps of the search'
            )
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

    @property
    def held(self) -> float:
        """Share of the steps that the target stays at each budget but the last."""
        if self.hold is not None:
            return float(self.hold)
        return max(0.0, 1 - self.warmup - self.ramp - self.widths_only) / len(self.legs)

    @property
    def window(self) -> float:
        """Share of the steps from the begin of the fall to the last budget."""
        return self.ramp + (len(self.legs) - 1) * self.held

    def _along(self, steps: int) -> float:
        """How much of the window is over, from 0 to 1."""
        if self.epochs is not None:
            number = self._epoch(steps) + 1 - round(self.warmup * self.epochs)
            along = number / max(1, math.floor(self.window * (self.epochs - 1) + 1e-9))
        else:
            progress = steps / self.total_steps
            along = (progress - self.warmup) / self.window if self.window > 0 else float(progress >= self.warmup)
        return min(max(along, 0.0), 1.0)

    def done(self, steps: int) -> float:
        """How much of the way to the target is scheduled, from 0 to 1: ``e / e_max`` of eq. 10. With several budgets
        up to their number: 1.5 is half of the way from the first to the second."""
        along, begin = self._along(steps), 0.0
        if len(self.legs) == 1 or self.window == 0:
            return along * len(self.legs)
        for number, leg in enumerate(self.legs):
            fall = leg * self.ramp / self.window
            if along < begin + fall:
                return number + (along - begin) / fall
            begin = self.end(number)
            if along < begin:
                return number + 1.0
        return float(len(self.legs))

    def end(self, number: int) -> float:
        """Where in the window the stay at a budget is over, from 0 to 1."""
        return (sum(self.legs[: number + 1]) * self.ramp + (number + 1) * self.held) / max(self.window, 1e-12)

    def passed(self, steps: int) -> int:
        """How many budgets, but the last, the target has stayed at long enough."""
        if len(self.legs) == 1:
            return 0
        along = self._along(steps)
        return sum(along >= self.end(number) - 1e-9 for number in range(len(self.legs) - 1))

    def hard(self, steps: int) -> bool:
        """Blocks and heads are hard."""
        if self.epochs is not None and self.widths_only > 0:
            return self._epoch(steps) >= self.epochs - max(1, round(self.widths_only * self.epochs))
        return steps / self.total_steps >= 1 - self.widths_only
