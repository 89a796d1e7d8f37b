"""Cuts by a share of a width: parts that shrink alike, so that the number which a forward computes follows them.

``n = x.shape[1] // 2; x[:, :n], x[:, n:]`` is exact in a slim model if position ``i`` of one half lives and dies with
position ``i`` of the other. Whether a forward has its number from the width or writes it down is not in the trace: a
slim model whose parts have shrunk alike tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import numpy as np

from ..mutators.find import Tie
from ..tracing import IntArray
from .compare import Mismatch
from .cuts import CUTS, bounds_of, cut_line
from .plan import Plan
from .sizes import Sizes


@dataclass(frozen=True, eq=False)
class Shares:
    """What would shrink alike.

    Attributes:
        ties: position ``i`` of every part of a width with that of the first.
        rest: ids that would stay.
        keep: (N,) bool, a structure in which the parts have lost the same, and nothing else has.
    """

    ties: list[Tie]
    rest: list[IntArray]
    keep: IntArray


@dataclass(frozen=True, eq=False)
class _Parts:
    lines: IntArray  # (parts, n) ids
    rest: IntArray


def shares(plan: Plan, sizes: Sizes, problem: Mismatch) -> Iterator[Shares]:
    """How the width that is cut where the problem is may be parted, likeliest first: in all twins at once, or here."""
    module = sizes.call(*problem.place).module
    if sizes.call(*problem.place).name not in CUTS:
        return
    places = [at for _, at in sizes.twins(problem, module)]
    ways = [_ways(sizes, problem.mode, at) for at in places]
    for way, here in ways[0].items():
        everywhere = [here, *(other[way] for other in ways[1:] if way in other)]
        for parts in (everywhere, [here])[: len(everywhere)]:
            keep = _structure(plan, [part.lines for part in parts])
            if keep is not None:
                ties = [Tie(line, (part.lines[0],)) for part in parts for line in part.lines[1:]]
                yield Shares(ties, [part.rest for part in parts if len(part.rest)], keep)


def _ways(sizes: Sizes, mode: int, index: int) -> dict[str, _Parts]:
    """Name of a way -> parts of the width that a call cuts."""
    call = sizes.call(mode, index)
    line = cut_line(call)
    if line is None:
        return {}
    bounds = {0, len(line)}
    for other in (sizes.call(mode, i) for i in sizes.own(mode, call.module)):
        same = cut_line(other)
        if same is not None and np.array_equal(same, line):
            bounds.update(bounds_of(other))
    cuts = sorted(bounds)
    lengths = [b - a for a, b in pairwise(cuts)]
    found = {}
    # Parts of one size; the same with a remainder; and as equal as they can be.
    for name, size in (('equal', gcd(*cuts)), ('remainder', gcd(*cuts[:-1]))):
        count = len(line) // max(1, size)
        if size > 1 and count > 1:
            found[name] = _Parts(line[: count * size].reshape(count, size), line[count * size :])
    if 1 < min(lengths) == max(lengths) - 1:
        least = min(lengths)
        rest = [line[a + least : b] for a, b in pairwise(cuts)]
        found['almost'] = _Parts(np.stack([line[a : a + least] for a in cuts[:-1]]), np.concatenate(rest))
    return found


def _structure(plan: Plan, parts: Sequence[IntArray]) -> IntArray | None:
    """Of the first width about half of what can go is gone, and with it what must go with it; one position, if that
    leaves nothing somewhere. None if one does, too."""
    owners = [plan.owner(lines) for lines in parts]
    if any(((owner >= 0).sum(-1) > 1).any() for owner in owners):
        return None  # channels made of heads and places in them
    elements = [owner.max(-1) for owner in owners]
    free = np.flatnonzero((elements[0] >= 0).all(0))
    for count in dict.fromkeys((len(free) // 2, 1)) if len(free) else ():
        keep = np.ones(len(plan.ownership.units), dtype=bool)
        keep[elements[0][:, free[:count]]] = False
        if count and _closed(elements, keep):
            return keep
    return None


def _closed(elements: Sequence[IntArray], keep: IntArray) -> bool:
    """Take out of ``keep`` what lives in one part where the others have died; False if a width is left with nothing, or
    something can't go."""
    changed = True
    while changed:
        changed = False
        for element in elements:
            gone = ((element >= 0) & ~keep[element]).any(0)
            own = element[:, gone]
            if gone.all() or (own < 0).any():
                return False
            changed |= bool(keep[own].any())
            keep[own] = False
    return True
