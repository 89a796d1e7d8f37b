"""Rearrangements of all positions of a tensor, by reshapes and permutations.

An arrangement is a list of ``(stride, size)``: read row by row, the tensor's positions are those of a nested loop over
the tensor that it started from, read row by row too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Arrangement = tuple[tuple[int, int], ...]


def plain(shape: Sequence[int]) -> Arrangement:
    """Positions as they are. Reshapes change no arrangement."""
    return ((1, math.prod(shape)),)


def permuted(arrangement: Arrangement, shape: Sequence[int], order: Sequence[int]) -> Arrangement | None:
    """After a permutation of the dimensions of ``shape``; None if they cut loops in a way that can't be written."""
    loops = list(reversed(arrangement))
    groups: list[list[tuple[int, int]]] = []
    for size in shape:
        group: list[tuple[int, int]] = []
        while size > 1:
            stride, length = loops.pop()
            part = min(size, length)
            if size % part or length % part:
                return None
            if part < length:
                loops.append((stride, length // part))
                stride *= length // part
            group.append((stride, part))
            size //= part
        groups.append(group)
    return merged([loop for d in order for loop in groups[d]])


def merged(loops: Sequence[tuple[int, int]]) -> Arrangement:
    """Loops that follow each other as one; the shortest form, so that equal arrangements are equal."""
    result: list[tuple[int, int]] = []
    for stride, size in loops:
        if size == 1:
            continue
        if result and result[-1][0] == stride * size:
            size *= result.pop()[1]
        result.append((stride, size))
    return tuple(result) or ((1, 1),)
