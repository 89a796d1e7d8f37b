"""What a model chooses among, as units: how many have to be left, and the modules that run for the chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tracing import IntArray, Trace


def chosen_among(trace: Trace) -> set[int]:
    """Simple elements that something is chosen among."""
    return {root for ids, _ in trace.chosen for root in _roots(trace, ids)}


def least_of(trace: Trace, roots: Sequence[int]) -> int:
    """How many of ``roots`` have to be left, so that there are as many as are chosen at once, with those that stay."""
    frozen = trace.elements.frozen_mask()
    least = 1
    for ids, count in trace.chosen:
        own = np.array(_roots(trace, ids))
        if np.isin(own, roots).any():
            least = max(least, count - int(((own < 0) | frozen[own]).sum()))
    return least


def modules_of(trace: Trace, roots: Sequence[int]) -> list[tuple[str, ...]]:
    """The modules that run for each of ``roots``, entries of lists; none if there are no such lists."""
    found: list[list[str]] = [[] for _ in roots]
    for parent, line in trace.experts.items():
        own = _roots(trace, line)
        for k, root in enumerate(roots):
            found[k] += [f'{parent}.{own.index(root)}'] if root in own else []
    return [tuple(paths) for paths in found] if any(found) else []


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
