"""How far long work has come: a bar where there is a terminal, a line now and then where there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

T = TypeVar('T')
PATIENCE = 5.0  # seconds without a word
SELDOM = 15.0  # seconds between two lines in a log


class Progress:
    """Tells on standard error what runs, how far it is, the time left, and numbers that are given with a step.

    A context; nothing is shown of what ends sooner than ``patience``.

    Args:
        what: the work, in a few words.
        total: steps that it will take; 0 if nobody knows.
        patience: seconds without a word at the beginning.
    """

    def __init__(self, what: str, total: int = 0, patience: float = PATIENCE) -> None:
        self.what, self.total, self.done = what, total, 0
        self.begin = time.perf_counter()
        self.next = self.begin + patience
        self.said = -1  # steps that the newest line told of
        self.console = Console(stderr=True)
        self.bar: Bar | None = None

    def over(self, items: Sequence[T]) -> Iterator[T]:
        with self:
            for item in items:
                yield item
                self.step()

    def step(self, **numbers: Any) -> None:
        """One more is done."""
        self.at(self.done + 1, **numbers)

    def at(self, done: int, **numbers: Any) -> None:
        """So many are done; ``numbers`` are shown by their names."""
        self.done = done
        now = time.perf_counter()
        if now < self.next:
            return
        told = '  '.join(f'{name} {_told(value)}' for name, value in numbers.items())
        if not self.console.is_terminal:
            if done == self.said:
                return
            self.said, self.next = done, now + SELDOM
            of = f' of {self.total}' if self.total else ''
            left = f', {self._left(now):.0f} s left' if self.total and done else ''
            self.console.print(
                f'dms_mm: {self.what}: {done}{of}{left}  {told}'.rstrip(), highlight=False, soft_wrap=True
            )
            return
        if self.bar is None:
            self.bar = self._bar()
        self.bar.update(self.bar.task_ids[0], completed=done, told=told)

    def _left(self, now: float) -> float:
        return (now - self.begin) / self.done * max(self.total - self.done, 0)

    def _bar(self) -> Bar:
        bar = Bar(
            TextColumn('{task.description}'), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn('{task.fields[told]}'), console=self.console, transient=True,
        )  # fmt: skip
        bar.start()
        bar.add_task(self.what, total=self.total or None, told='')
        return bar

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _told(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
