"""Which units are at fault where a slim model is not what the masked one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..mutables import ChannelUnit, DepthUnit, MutableUnit
from ..mutators.find import Revision
from ..tracing import IntArray
from .parting import first_parting
from .twins import Twins

MOST_CULPRITS = 8  # found in one structure before all that it cuts is frozen
MORE = (2, 4)  # fewest elements that are tried where a width can't do with one


@dataclass(frozen=True, eq=False)
class Comparison:
    """A structure ``keep`` (N,) bool to compare, and in which mode; its ``counts``, too."""

    keep: IntArray
    training: bool = False
    counts: bool = False


@dataclass(frozen=True)
class _Part:
    """What of a structure can be at fault by itself: the cut of a width, or a block that is out."""

    unit: MutableUnit
    gone: IntArray  # elements of the bank

    @property
    def block(self) -> str:
        unit = self.unit
        return unit.blocks[int(self.gone[0]) - unit.start] if isinstance(unit, DepthUnit) else ''

    @property
    def kept(self) -> int:
        return self.unit.size - len(self.gone)

    @property
    def name(self) -> str:
        return f'block {self.block}' if self.block else self.unit.name


def _parts(units: Sequence[MutableUnit], keep: IntArray) -> list[_Part]:
    parts = []
    for unit in units:
        gone = unit.start + np.flatnonzero(~keep[unit.start : unit.start + unit.size])
        if isinstance(unit, DepthUnit):
            parts += [_Part(unit, gone[k : k + 1]) for k in range(len(gone))]
        elif len(gone):
            parts.append(_Part(unit, gone))
    return parts


class _Search:
    """Looks for the parts of one structure that are at fault."""

    def __init__(self, twins: Twins, trial: Comparison) -> None:
        self.twins, self.trial = twins, trial

    def keep_without(self, parts: Sequence[_Part]) -> IntArray:
        keep = np.ones(len(self.trial.keep), dtype=bool)
        for part in parts:
            keep[part.gone] = False
        return keep

    def problem_of(self, parts: Sequence[_Part]) -> str:
        """What is wrong where these parts are gone and nothing else, or nothing."""
        return self.twins.compare(self.keep_without(parts), self.trial.training, self.trial.counts)

    def first(self, parts: Sequence[_Part]) -> int:
        """Place of the last of the fewest first parts that show the problem: it takes part in it."""
        low, high = 0, len(parts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.problem_of(parts[:middle]) else (middle, high)
        return high - 1

    def enough(self, others: Sequence[_Part], parts: Sequence[_Part]) -> int:
        """How many elements of some widths are enough, 0 if a few more are not."""
        for least in MORE if all(not part.block for part in parts) else ():
            fewer = [_Part(p.unit, p.gone[max(0, least - p.kept) :]) for p in parts]
            if any(p.kept < least < p.unit.size for p in parts) and not self.problem_of(
                [*others, *(p for p in fewer if len(p.gone))]
            ):
                return least
        return 0

    def note(self, part: _Part, others: Sequence[_Part], problem: str, least: int) -> str:
        how = 'without it' if part.block else f'with {part.kept} of its {part.unit.size}'
        where = first_parting(self.twins, self.keep_without([*others, part]), self.trial.training)
        mode = 'training' if self.trial.training else 'eval'
        stays = f'keeps at least {least}' if least else 'stays'
        return f'{part.name} {stays}, because {how}, in {mode} mode, {problem}{where}'


def take_out(twins: Twins, trial: Comparison, problem: str) -> Revision | None:
    """What to take out so that a structure has no problem, one unit after the other, by bisection.

    Returns:
        None if there is one with nothing cut.
    """
    search = _Search(twins, trial)
    if search.problem_of([]):
        return None
    parts = _parts(twins.plan.units, trial.keep)
    notes: list[str] = []
    freezes: list[tuple[IntArray, str]] = []
    fixed: list[str] = []
    raised: dict[str, int] = {}

    def freeze(part: _Part, note: str) -> None:
        if isinstance(part.unit, ChannelUnit):
            ids = np.concatenate([np.ravel(r) for r in part.unit.roots])
            freezes.append((ids, f'masked and slim model differ by numbers: {note}'))
        else:
            fixed.append(part.block)

    while parts and problem:
        if len(notes) == MOST_CULPRITS:
            least, names = search.enough([], parts), ', '.join(p.name for p in parts)
            notes.append(f'what else was cut {f"keeps {least} with" if least else "is frozen with"} them: {names}')
            for part in parts:
                if least:
                    raised[part.unit.name] = least
                else:
                    freeze(part, notes[-2])
            break
        place = search.first(parts)
        part, others = parts.pop(place), parts[:place]
        least = search.enough(others, [part])
        notes.append(search.note(part, others, search.problem_of([*others, part]) or problem, least))
        if least:
            raised[part.unit.name] = least
        else:
            freeze(part, notes[-1])
        problem = search.problem_of(parts)
    return Revision(freezes=freezes, fixed_blocks=fixed, raised=raised, notes=notes)
