"""Ties of units where one stored number serves two sizes, or where a forward takes two sizes to be one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..mutators.find import Tie
from ..tracing import Elements, IntArray
from .compare import Mismatch
from .plan import Plan
from .sizes import Owners, Sizes


def changes(elements: Elements, ties: Sequence[Tie]) -> bool:
    """Something is tied that doesn't live and die together already."""
    simple = [tie for tie in ties if len(tie.right) == 1]
    if len(simple) < len(ties):
        return True  # what is composed is offered only where it is not the same
    return not elements.same(
        np.concatenate([tie.left for tie in simple]), np.concatenate([tie.right[0] for tie in simple])
    )


def tie_of(plan: Plan, a: Owners, b: Owners) -> list[Tie]:
    """The tie by which two sizes become one, if there is any."""
    x, y = np.concatenate(a, 1), np.concatenate(b, 1)
    x, y = x[:, (x >= 0).any(0)], y[:, (y >= 0).any(0)]
    if x.shape != y.shape or (x < 0).any() or (y < 0).any():
        return []
    left, right = plan.ownership.roots[x.ravel()], plan.ownership.roots[y.ravel()]
    # As many heads as positions in each are equal by chance.
    return [] if plan.trace.elements.composed(left, right) else [Tie(left, (right,))]


def width_ties(plan: Plan, sizes: Sizes, problem: Mismatch, ahead: int) -> list[Tie]:
    """Ties of a module's input channels with what it reshapes to their number.

    Many attentions take ``heads * head_dim``, or their own output, to be as wide as their input: all shrink as one.
    """
    ties = []
    for twin, at in sizes.twins(problem, sizes.call(*problem.place).module):
        for place in (twin, twin.rpartition('.')[0]):
            entries = (plan.trace.io.get(place) or (None, None))[0]
            lines = [ids for _, ids in entries[1] if ids.ndim == 1] if entries is not None else []
            found = [
                Tie(line, other)
                for other in reshaped(plan, sizes, problem.mode, at, ahead)
                for line in lines
                if len(line) == len(other[0]) and not live_together(plan.trace.elements, line, other)
            ]
            if found:
                ties += found[:1]
                break
    return ties


def reshaped(plan: Plan, sizes: Sizes, mode: int, index: int, ahead: int) -> list[tuple[IntArray, ...]]:
    """Lines of ids at a call and the next ones of its module: composed ones first, then every one that is pruned.

    A line is its ids, or several lists of ids of which each position is composed.
    """
    composed: list[tuple[IntArray, ...]] = []
    single: list[tuple[IntArray, ...]] = []
    for call in sizes.next_calls(mode, index, ahead):
        for entries in [*call.axes, *call.input_axes]:
            for _, ids in entries:
                # Of ids over heads, head dims and what lies before them (query, key, value): the last two.
                line = ids[(0,) * (ids.ndim - 2)].ravel() if ids.ndim > 1 else ids
                # Where head dims can't change, heads alone make up the line.
                if sizes.pruned(line):
                    (composed if ids.ndim > 1 else single).append((line,))
            for d in {dims[0] for dims, _ in entries if len(dims) == 1}:
                lists = [ids for dims, ids in entries if dims == (d,)]
                if len(lists) == 2:
                    composed.append(tuple(lists))
    return composed + single


def live_together(elements: Elements, line: IntArray, other: tuple[IntArray, ...]) -> bool:
    """``line[i]`` and what is composed of ``part[i]`` of every ``other`` live and die together, or none can go at all.

    The same as :meth:`Elements.same` says of ``line`` and the composition once it is made, which it isn't here.
    """
    if len(other) == 1:
        return elements.same(line, other[0])
    frozen = np.append(elements.frozen_mask(), True)  # the last for "none"
    left, right = elements.parts(line), np.concatenate([elements.parts(ids) for ids in other], 1)
    # What is frozen is no part of a composition, and a part that comes twice counts once.
    right = -np.sort(-np.where(frozen[right], -1, right), axis=1)
    right[:, 1:][right[:, 1:] == right[:, :-1]] = -1
    width = max(left.shape[1], right.shape[1])
    left, right = (
        -np.sort(-np.pad(side, ((0, 0), (0, width - side.shape[1])), constant_values=-1)) for side in (left, right)
    )
    return np.array_equal(left, right) or bool(frozen[left].all() and (right < 0).all())
