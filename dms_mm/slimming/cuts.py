"""Where a forward cuts a width in pieces, and structures that tell whether it goes by the width or by the pieces.

``x[:, : x.shape[1] // 3]`` is what a piece of its own size would be in every structure in which the pieces happen to
shrink alike. Two structures in which the width keeps the same number and the piece another one can't both pass for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..mutables import MutableUnit
from ..mutables.ownership import all_live
from ..tracing import Call, IntArray
from .plan import Plan
from .trials import Trial

CUTS = {f'aten::{name}' for name in 'slice split unsafe_split split_with_sizes unsafe_split_with_sizes'.split()}
# Pieces are cut by several heads times their dimensions, and seen in heads only once all of them are cut: so many
# calls further on.
AHEAD = 8
MOST_TELLING = 3  # trials more, where lines overlap


def cut_line(call: Call) -> IntArray | None:
    """The ids along the one dimension that an operator cuts, if that is all that they lie along."""
    if call.name not in CUTS or not call.shapes or not call.input_shapes:
        return None
    dim = _dim(call)
    lines = [(dims, ids) for dims, ids in call.input_axes[0] if dim in dims]
    return lines[0][1] if len(lines) == 1 and lines[0][0] == (dim,) else None


def _dim(call: Call) -> int:
    """The dimension that is cut, -1 for none."""
    return next((d for d, (a, b) in enumerate(zip(call.shapes[0], call.input_shapes[0])) if a != b), -1)


def bounds_of(call: Call) -> list[int]:
    """Where the parts begin and end."""
    dim = _dim(call)
    start = sum(call.start[1:]) if call.start is not None else 0
    return np.cumsum([start, *(shape[dim] for shape in call.shapes)]).tolist()


class _Cut:
    """A bound of a width ``owner`` (n,), elements of the bank or -1, of which the first ``at`` come before it."""

    def __init__(self, plan: Plan, owner: IntArray, at: int) -> None:
        self.plan, self.sides, self.at = plan, (owner[:at], owner[at:]), at
        self.owner = owner[:, None]
        self.units = np.unique(plan.ownership.units[owner[owner >= 0]])

    def counts(self, keep: IntArray) -> tuple[int, int]:
        """How many live, and how many of them before the bound."""
        alive = all_live(self.owner, keep)
        return int(alive.sum()), int(alive[: self.at].sum())

    def told(self, trials: Sequence[Trial]) -> bool:
        """Two structures keep the same of the width and something else before the bound."""
        seen = {len(self.owner): self.at}
        return any(seen.setdefault(n, before) != before for n, before in (self.counts(x.keep) for x in trials))

    def moved(self, keep: IntArray) -> IntArray | None:
        """``keep`` with one position less on one side and one more on the other, if that can be."""
        units, place = self.plan.units, self.plan.ownership.units
        for less, more in (self.sides, self.sides[::-1]):
            out = [e for e in less if e >= 0 and keep[e] and _kept(units[place[e]], keep) > units[place[e]].min_keep]
            into = [e for e in more if e >= 0 and not keep[e]]
            if out and into:
                found = keep.copy()
                found[out[-1]], found[into[0]] = False, True
                if self.counts(found)[0] == self.counts(keep)[0] and self.counts(found) != self.counts(keep):
                    return found
        return None

    def extremes(self) -> Iterator[IntArray]:
        """One side at its least, the other whole."""
        for side in self.sides:
            keep = np.ones(len(self.plan.ownership.units), dtype=bool)
            for k in np.unique(self.plan.ownership.units[side[side >= 0]]):
                unit = self.plan.units[k]
                keep[unit.start + unit.min_keep : unit.start + unit.size] = False
            yield keep

    def telling(self, trials: Sequence[Trial]) -> IntArray | None:
        """A structure that tells more than ``trials`` do, best first: of it only what is cut here matters."""
        known = [self.counts(trial.keep) for trial in trials]
        moved = (self.moved(trial.keep) for trial in trials)
        candidates = (x for x in (*moved, *self.extremes()) if x is not None)
        return next((x for x in candidates if self.counts(x) not in known), None)


def _kept(unit: MutableUnit, keep: IntArray) -> int:
    return int(keep[unit.start : unit.start + unit.size].sum())


def _cuts(plan: Plan) -> Iterator[_Cut]:
    """The bounds with something searchable on either side; no channels made of heads and places in them.

    Where either side has nothing that the other hasn't, they shrink alike as it is.
    """
    seen = set()
    for call in plan.trace.calls[0]:
        line = cut_line(call)
        if line is None:
            continue
        owner = plan.owner(line)
        if ((owner >= 0).sum(-1) > 1).any():
            continue
        owner = owner.max(-1)
        for at in bounds_of(call):
            key = (owner.tobytes(), at)
            before, after = (set(side[side >= 0].tolist()) for side in (owner[:at], owner[at:]))
            if key not in seen and before - after and after - before:
                seen.add(key)
                yield _Cut(plan, owner, at)


def telling_trials(plan: Plan, trials: Sequence[Trial]) -> list[Trial]:
    """Structures more, in which no number before a bound of a cut can come from the width that is cut."""
    cuts, found = list(_cuts(plan)), list(trials)
    for _ in range(MOST_TELLING):
        cuts = [cut for cut in cuts if not cut.told(found)]
        keep = trials[-1].keep.copy()
        touched: set[int] = set()
        for cut in cuts:
            # What shares a unit with another cut has its turn in the next one.
            chosen = cut.telling(found) if touched.isdisjoint(cut.units) else None
            if chosen is None:
                continue
            touched.update(cut.units)
            for unit in (plan.units[k] for k in cut.units):
                keep[unit.start : unit.start + unit.size] = chosen[unit.start : unit.start + unit.size]
        if not touched:
            break
        found.append(Trial(keep))
    return found[len(trials) :]
