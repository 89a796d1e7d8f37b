"""Which widths a failing operator depends on: trials in which they alone lose something, halved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..mutables import DepthUnit, MutableUnit
from ..mutators.find import Tie
from ..tracing import IntArray
from .compare import Mismatch
from .cuts import AHEAD
from .plan import Plan
from .sizes import Sizes
from .ties import live_together, reshaped

Shows = Callable[[Sequence[MutableUnit]], bool]  # whether the problem shows if only these units lose something


def alone(keep: IntArray, units: Sequence[MutableUnit]) -> IntArray:
    """(N,) bool: ``keep`` in these units, everything in all others."""
    result = np.ones_like(keep)
    for unit in units:
        own = slice(unit.start, unit.start + unit.size)
        result[own] = keep[own]
    return result


def fewest(units: Sequence[MutableUnit], shows: Shows) -> list[MutableUnit]:
    """A part of the units that shows the problem and neither half of which does; none if not even all of them do."""
    chosen = list(units)
    if not chosen or not shows(chosen):
        return []
    while len(chosen) > 1:
        half = len(chosen) // 2
        part = next((p for p in (chosen[:half], chosen[half:]) if shows(p)), None)
        if part is None:
            break
        chosen = part
    return chosen


def _cut(plan: Plan, keep: IntArray) -> list[MutableUnit]:
    """Widths that lose something."""
    return [
        unit
        for unit in plan.units
        if not isinstance(unit, DepthUnit) and not keep[unit.start : unit.start + unit.size].all()
    ]


def blamed(plan: Plan, sizes: Sizes, problem: Mismatch, keep: IntArray, shows: Shows) -> list[IntArray]:
    """Elements of the widths on which a number of an operator depends, or that make it fail; and of those at the same
    place in twins. Of what fails the widths that the operator sees are asked alone: the others are tied to them."""
    chosen = _cut(plan, keep)
    if not problem.argument:
        seen = _seen(plan, sizes, problem)
        chosen = [u for u in chosen if ((u.start <= seen) & (seen < u.start + u.size)).any()]
    elements = [np.arange(u.start, u.start + u.size) for u in fewest(chosen, shows)]
    return [*elements, *_likewise(sizes, problem, elements)]


def _seen(plan: Plan, sizes: Sizes, problem: Mismatch) -> IntArray:
    """Elements of the bank that an operator sees."""
    call = sizes.call(*problem.place)
    entries = [ids for axes in [*call.axes, *call.input_axes] for _, ids in axes]
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(plan.owner(ids).ravel() for ids in entries)]))


def _likewise(sizes: Sizes, problem: Mismatch, elements: Sequence[IntArray]) -> list[IntArray]:
    """What twins of a module have where it has ``elements``; those that the forward has come past hold."""
    mode, module = problem.mode, sizes.call(*problem.place).module
    own = sizes.own(mode, module)
    behind = own.index(problem.index)
    # Pieces are seen in heads only behind the cuts.
    ahead = range(behind + 1, min(behind + 1 + AHEAD, len(own)))
    for place in [*range(behind, -1, -1), *ahead] if elements else ():
        for seen in sizes.at(sizes.call(mode, own[place])):
            owner = np.unique(np.concatenate(seen.owners, 1))
            if not any(np.array_equal(owner[owner >= 0], e) for e in elements):
                continue
            found: list[IntArray] = []
            for twin, at in (pair for pair in sizes.twins(problem, module) if pair[1] >= problem.index):
                theirs = sizes.own(mode, twin)
                k = theirs.index(at) + place - behind
                there = sizes.at(sizes.call(mode, theirs[k])) if 0 <= k < len(theirs) else []
                found += [o[o >= 0] for s in there if s.role == seen.role for o in s.owners]
            return found
    return []


def foreign_ties(plan: Plan, sizes: Sizes, problem: Mismatch, keep: IntArray, shows: Shows) -> list[Tie]:
    """Ties of a width from elsewhere, which a reshape goes by, with what is reshaped to their number.

    Attention that stands in a larger module takes its head dims from the width of the stream.
    """
    seen = _seen(plan, sizes, problem)
    outside = [u for u in _cut(plan, keep) if not ((u.start <= seen) & (seen < u.start + u.size)).any()]
    for unit in fewest(outside, shows)[:1]:
        others = reshaped(plan, sizes, problem.mode, problem.index, 2)
        for line in _lines_of(plan, unit):
            for other in others:
                if len(line) == len(other[0]) and not live_together(plan.trace.elements, line, other):
                    return [Tie(line, other)]
    return []


def _lines_of(plan: Plan, unit: MutableUnit) -> list[IntArray]:
    """Ids of parameters' dimensions every position of which is of this unit."""
    mine = np.arange(unit.start, unit.start + unit.size)
    lines = []
    for name, owners in plan.owners.items():
        for ids, owner in zip(plan.trace.params[name], owners):
            if owner is not None and (owner >= 0).any(1).all() and np.array_equal(np.unique(owner[owner >= 0]), mine):
                lines.append(ids)
    return lines
