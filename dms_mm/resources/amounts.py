"""Numbers with units: what a budget may be given as, and how a resource is printed."""

from __future__ import annotations

import math
import re

NUMBER = re.compile(r'\s*([-+]?(?:(?:\d{1,3}(?:[,_]\d{3})+|\d+)\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*')
# What a resource is counted in -> its units. Letters mean what their case says: m is a thousandth, M a million.
UNITS: dict[str, dict[str, float]] = {
    '': {'k': 1e3, 'K': 1e3, 'M': 1e6, 'G': 1e9, 'B': 1e9, 'T': 1e12},
    's': {'s': 1.0, 'ms': 1e-3, 'us': 1e-6, 'µs': 1e-6, 'ns': 1e-9},
    'B': {
        'B': 1.0, 'kB': 1e3, 'KB': 1e3, 'MB': 1e6, 'GB': 1e9, 'TB': 1e12,
        'KiB': 2.0**10, 'MiB': 2.0**20, 'GiB': 2.0**30, 'TiB': 2.0**40,
    },
}  # fmt: skip
NAMES = {'': 'a plain number', 's': 'a time', 'B': 'a size in bytes'}
SHOWN = {'': ['T', 'G', 'M', 'k'], 's': ['s', 'ms', 'us', 'ns'], 'B': ['TB', 'GB', 'MB', 'kB', 'B']}


def amount(text: str, unit: str) -> tuple[float, bool | None]:
    """``'390M'`` or ``'40%'`` as a number, and whether that is a share (True), absolute (False), or as a number without
    a unit says (None).

    Args:
        unit: what the resource is counted in, a key of :data:`UNITS`.

    Raises:
        ValueError: no number, or a unit that this resource doesn't have; names those that it has.
    """
    found = NUMBER.fullmatch(text)
    if found is None:
        raise ValueError(f'must be a number: {_taken(unit)}')
    value, given = float(found[1].replace(',', '').replace('_', '')), found[2]
    if not given:
        return value, None
    if given == '%':
        return value / 100, True
    known = UNITS[unit]
    if given not in known:
        meant = [name for name in known if name.casefold() == given.casefold()]
        meant = meant or [name for name in known if unit == 'B' and name == f'{given}B']
        hint = f' did you mean {meant[0]!r}?' if meant else ''
        raise ValueError(f'has the unit {given!r}, which is none of this resource;{hint} {_taken(unit)}')
    return value * known[given], False


def _taken(unit: str) -> str:
    return (
        f'it is {NAMES[unit]} and takes {", ".join(UNITS[unit])}, % of the supernet, or no unit: '
        'a share of at most 1.0, or a count'
    )


def shown(value: float, unit: str) -> str:
    """A number with four digits and the unit that suits it: ``'390M'``, ``'3.2 ms'``, ``'16.78 MB'``."""
    if not math.isfinite(value) or not value:
        return f'{value:g}'
    names = SHOWN[unit]
    name = next((n for n in names if abs(value) >= UNITS[unit][n]), names[-1] if unit else '')
    number = f'{value / UNITS[unit].get(name, 1.0):.4g}'
    return f'{number} {name}' if unit else f'{number}{name}'
