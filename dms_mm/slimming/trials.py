"""Hard structures: those that a plan is tried with, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..mutables import ExpertUnit, MutableUnit
from ..tracing import IntArray


@dataclass(frozen=True, eq=False)
class Trial:
    """A structure to try: the elements ``keep`` (N,) bool, whether blocks are among what goes, and the mode."""

    keep: IntArray
    cuts_blocks: bool = False
    training: bool = False


def trial_structures(units: Sequence[MutableUnit], trained: bool) -> list[Trial]:
    """Structures that find sizes that a forward writes down, and tell one size from another.

    Args:
        trained: whether the training mode was traced. It differs in few places: one structure sees them.
    """
    # Cuts at the front and at the back find sizes that a forward writes down; different counts tell them apart.
    trials = [
        Trial(every_unit_cut(units, 0, 'first', blocks=False)),
        Trial(every_unit_cut(units, 1, 'last', blocks=True), cuts_blocks=True, training=trained),
        Trial(random_keep(units, 2), cuts_blocks=True),
        Trial(random_keep(units, 3, blocks=False)),
    ]
    for seed in range(4, 10):
        pair = alike([trial.keep for trial in trials], units)
        if pair is None:
            break
        keep = random_keep(units, seed, blocks=False)
        for unit, count in zip(pair, (pair[0].min_keep, pair[1].size)):
            keep[unit.start : unit.start + unit.size] = np.arange(unit.size) < count
        trials.append(Trial(keep))
    return trials


def with_all_experts(units: Sequence[MutableUnit], keep: IntArray) -> IntArray:
    """The structure ``keep`` (N,) bool with all that is chosen among."""
    keep = keep.copy()
    for unit in units:
        if isinstance(unit, ExpertUnit):
            keep[unit.start : unit.start + unit.size] = True
    return keep


def random_keep(units: Sequence[MutableUnit], seed: int, low: float = 0.3, blocks: bool = True) -> IntArray:
    """A random hard structure, (N,) bool: every unit keeps a random subset, at least ``low`` of its width."""
    generator = np.random.default_rng(seed)
    keep = np.ones(sum(u.size for u in units), dtype=bool)
    for unit in units:
        if unit.kind == 'depth' and not blocks:
            continue
        # Without any block little else of a model would be seen.
        least = max(unit.min_keep, round(low * unit.size) if unit.kind != 'depth' else unit.size // 2)
        count = int(generator.integers(least, unit.size + 1))
        gone = generator.permutation(unit.size)[count:]
        keep[unit.start + gone] = False
    return keep


def every_unit_cut(units: Sequence[MutableUnit], seed: int, end: str, blocks: bool) -> IntArray:
    """A hard structure, (N,) bool, in which every unit lost its ``'first'`` or ``'last'`` elements.

    Units of one size keep different numbers as far as there are, so that none is taken for another.
    """
    generator = np.random.default_rng(seed)
    offset: dict[int, int] = {}
    keep = np.ones(sum(u.size for u in units), dtype=bool)
    for unit in units:
        low, high = max(unit.min_keep, round(0.3 * unit.size)), max(unit.min_keep, unit.size - 1)
        if unit.kind != 'depth' or blocks:
            low = min(low, high)
            if unit.size not in offset:
                offset[unit.size] = int(generator.integers(high + 1 - low))
            count = low + offset[unit.size] % (high + 1 - low)
            offset[unit.size] += 1 if end == 'first' else max(1, (high + 1 - low) // 2)
            gone = slice(0, unit.size - count) if end == 'first' else slice(count, unit.size)
            keep[unit.start : unit.start + unit.size][gone] = False
    return keep


def alike(structures: Sequence[IntArray], units: Sequence[MutableUnit]) -> tuple[MutableUnit, MutableUnit] | None:
    """Two widths of one size that keep the same number in every structure: one would pass for the other."""
    seen: dict[tuple[int, ...], MutableUnit] = {}
    for unit in units:
        counts = (unit.size, *(int(keep[unit.start : unit.start + unit.size].sum()) for keep in structures))
        if unit.kind != 'depth' and seen.setdefault(counts, unit) is not unit:
            return seen[counts], unit
    return None
