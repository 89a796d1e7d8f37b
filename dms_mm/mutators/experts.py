"""What a model chooses among, as units: how many are chosen at once, and the modules that run for the chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tracing import IntArray, Trace


def chosen_among(trace: Trace) -> dict[int, int]:
    """Simple elements that something is chosen among, and the most that are chosen at once."""
    counts: dict[int, int] = {}
    for ids, count in trace.chosen:
        for root in _roots(trace, ids):
            counts[root] = max(count, counts.get(root, 0))
    return counts


def modules_of(trace: Trace, roots: Sequence[int]) -> list[str]:
    """The module that runs for each of ``roots``, entries of one list in its order; none if there is no such list."""
    for parent, line in trace.experts.items():
        own = _roots(trace, line)
        if set(own) == set(roots):
            return [f'{parent}.{own.index(root)}' for root in roots]
    return []


def steps_of(trace: Trace, roots: Sequence[int]) -> int:
    """Of how many positions a kernel takes multiples, where it meets ``roots``."""
    step = 1
    for ids, multiple in trace.multiples:
        if np.isin(trace.elements.parts(ids), np.asarray(roots)).any():
            step = int(np.lcm(step, multiple))
    return step


def _roots(trace: Trace, ids: IntArray) -> list[int]:
    """Representatives of simple elements, in their order."""
    found: list[int] = trace.elements.parts(ids).max(-1).tolist()
    return found
