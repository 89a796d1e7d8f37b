"""At which counts an operator is measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from ..resources.latency import Program

# Shares of the whole, the most telling first; ``True`` for one step more than the multiple there.
MARKS = [
    (1 / 2, False), (1 / 4, False), (3 / 4, False), (1 / 2, True), (1 / 8, False), (1 / 4, True), (3 / 8, False),
    (7 / 8, False), (5 / 8, False), (3 / 4, True), (1 / 16, False), (1 / 8, True), (1 / 32, False), (7 / 8, True),
]  # fmt: skip


def points_of(size: int, most: int, multiple: int, step: int = 1) -> list[int]:
    """Growing counts from the fewest to ``size``, at most ``most`` of them: at multiples of what the device likes, and
    one step above some of those, where its time jumps.

    Args:
        multiple: 8, 16 or 32.
        step: only multiples of it are ever kept.
    """
    least = min(step, size)
    if math.ceil(size / step) <= most:
        return [*range(least, size, step), size]
    wide = math.lcm(multiple, step)
    found = {least, size}
    for share, above in MARKS:
        near = round(share * size / wide) * wide + (step if above else 0)
        if not least < near < size:
            near = round(share * size / step) * step
        if least < near < size and len(found) < most:
            found.add(near)
    return sorted(found)


def sizes_of(program: Program, most: int, multiple: int, steps: Sequence[int]) -> list[tuple[int, ...]]:
    """Sizes of a program's variables over the grid of its coordinates.

    Args:
        most: points of an axis where there are two; twice as many where there is one.
        steps: of every variable, what its count is a multiple of.
    """
    sizes, shared = program.sizes, program.shared
    if len(sizes) <= 2:
        most = most if len(sizes) == 2 else 2 * most
        lines = [points_of(n, most, multiple, step) for n, step in zip(sizes, steps)]
        return list(itertools.product(*lines))
    others = [n for v, n in enumerate(sizes) if v != shared]
    shares = np.geomspace(1 / max(others), 1, most if shared is not None else 2 * most)
    found = sorted({tuple(max(1, round(share * n)) for n in sizes) for share in shares})
    if shared is None:
        return found
    line = points_of(sizes[shared], most, multiple, steps[shared])
    return sorted({(*rest[:shared], n, *rest[shared + 1 :]) for rest in found for n in line})
