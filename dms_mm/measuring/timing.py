"""How long a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from torch.utils.benchmark import Timer
from torch.utils.benchmark.utils.timer import timer

# A process's own time leaves out what others take from it: for one thread on a CPU that is shared.
CLOCKS = {'wall': timer, 'cpu': time.process_time}


def seconds_of(call: Callable[[], Any], threads: int, patience: float, clock: str = 'wall') -> list[float]:
    """Times of one call, each a mean over a block of them, for about ``patience`` seconds; at least five."""
    call()
    clocked = Timer('call()', globals={'call': call}, num_threads=threads, timer=CLOCKS[clock])
    # Blocks so long that the clock's own time is nothing beside them.
    number, took = 1, clocked.timeit(1).median
    while number * took < patience / 20 and number < 1 << 20:
        number = max(2 * number, min(int(patience / 20 / max(took, 1e-9)), 1 << 20))
        took = clocked.timeit(number).median
    blocks = max(5, int(patience / max(number * took, 1e-9)))
    return [clocked.timeit(number).median for _ in range(min(blocks, 20))]


def summary(times: list[float], overhead: float = 0.0) -> tuple[float, float]:
    """Median without the ``overhead`` of a call, and the interquartile range over the median."""
    low, median, high = np.percentile(times, (25, 50, 75)).tolist()
    return max(median - overhead, 0.0), (high - low) / max(median, 1e-12)
