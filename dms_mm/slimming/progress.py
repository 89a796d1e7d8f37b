"""A line on what takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar('T')
PATIENCE = 5.0  # seconds without a line


class Progress:
    """Tells on standard error how far a work has come, once it has taken some seconds."""

    def __init__(self, what: str, total: int = 0) -> None:
        self.what, self.total, self.done = what, total, 0
        self.told = time.perf_counter()

    def over(self, items: Sequence[T]) -> Iterator[T]:
        for item in items:
            yield item
            self.step()

    def step(self) -> None:
        """One more is done."""
        self.done += 1
        now = time.perf_counter()
        if now - self.told > PATIENCE:
            self.told = now
            of = f' of {self.total}' if self.total else ''
            print(f'dms_mm: {self.what}: {self.done}{of}', file=sys.stderr, flush=True)
