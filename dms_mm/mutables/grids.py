"""What units may keep, on its grid: bounds that are multiples, and units that are tied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .units import MutableUnit


def settle_grids(units: Sequence[MutableUnit]) -> None:
    """Give tied units the same bounds, and all units bounds that they may keep, in place.

    ``round_to`` of a unit with fewer elements says nothing. The bounds of a tie are the narrowest of its units.

    Raises:
        ValueError: no count is left for a unit, or tied units differ in size or kind.
    """
    for tie, tied in ties_of(units).items():
        first = tied[0]
        for unit in tied:
            if (unit.kind, unit.size) != (first.kind, first.size):
                raise ValueError(
                    f'tie {tie!r} holds {first.name!r} ({first.kind} of {first.size} elements) and {unit.name!r} '
                    f'({unit.kind} of {unit.size}): tied units keep equal counts, so they must be of one kind and size'
                )
        low, high = max(u.min_keep for u in tied), min(u.bounds()[1] for u in tied)
        multiple = math.lcm(*(u.round_to for u in tied))
        for unit in tied:
            unit.min_keep, unit.max_keep, unit.round_to = low, high, multiple
    for unit in units:
        _settle(unit)


def _settle(unit: MutableUnit) -> None:
    low, high = unit.bounds()
    step = unit.round_to = unit.round_to if unit.round_to <= unit.size else 1
    high = high if high == unit.size else high // step * step
    least = -(-low // step) * step
    least = high if high == unit.size and low <= high < least else least
    if least > high:
        raise ValueError(
            f'unit {unit.name!r} of {unit.size} elements can keep nothing: no multiple of {step} from {low} to '
            f'{unit.bounds()[1]}'
        )
    unit.min_keep, unit.max_keep = least, high


def ties_of(units: Sequence[MutableUnit]) -> dict[str, list[MutableUnit]]:
    """Name of a tie -> its units."""
    found: dict[str, list[MutableUnit]] = {}
    for unit in units:
        if unit.tie is not None:
            found.setdefault(unit.tie, []).append(unit)
    return found


def check_ties_stay(before: Sequence[MutableUnit], now: Sequence[MutableUnit]) -> None:
    """Raises: ValueError where a tied unit turned out to be none, so that the others would no longer be equal to it."""
    names = {u.name for u in now}
    for tie, tied in ties_of(before).items():
        lost = [u.name for u in tied if u.name not in names]
        if lost and len(lost) < len(tied):
            raise ValueError(
                f"unit {lost[0]!r} of tie {tie!r} can't be made smaller, as trials found, so that the others of it "
                'could not follow; take it out of the tie, or name it in `ignore` with them'
            )


def check_counts(units: Sequence[MutableUnit], counts: Mapping[str, int]) -> None:
    """Raises: ValueError for a structure off the grid, or with unequal counts in a tie; ``counts`` are by unit."""
    for unit in units:
        if unit.name in counts:
            unit.check(counts[unit.name])
    for tie, tied in ties_of(units).items():
        given = {u.name: counts[u.name] for u in tied if u.name in counts}
        if given and (len(given) < len(tied) or len(set(given.values())) > 1):
            shown = ', '.join(f'{name} {count}' for name, count in given.items())
            raise ValueError(
                f'tie {tie!r}: its {len(tied)} units keep equal counts and are set together, not {shown} alone'
            )
