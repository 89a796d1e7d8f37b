"""Settings of single units: the entries of ``units``, by name or pattern."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..mutables import MutableUnit
from ..registry import UNITS, build, find, nearest, unknown

Overrides = Mapping[str, Mapping[str, Any]]
Unit = TypeVar('Unit', bound=MutableUnit)

# What a unit is told by the trace, and no setting.
PLACES = {'name', 'size', 'min_keep', 'max_keep', 'round_to', 'tie', 'index', 'start', 'roots', 'blocks', 'carriers'}
BOUNDS = ('min', 'max', 'tie')  # of every kind of unit


def is_of_depth(pattern: str) -> bool:
    """Whether an entry means depth units, which are called after their stage: ``layer1/depth``."""
    return pattern.rpartition('/')[2].startswith('depth') and '/' in pattern


def settings_of(
    name: str, cls: type[Unit], settings: Mapping[str, Any], overrides: Overrides, unmatched: set[str]
) -> dict[str, Any]:
    """The settings of one unit and those of its class, ``type`` among them, from every entry that matches its name.

    Args:
        cls: the class that the unit has unless an entry gives another.
        settings: the settings that units of this kind have, as they are without an entry.
        unmatched: entries that matched nothing so far; those that match are taken out.

    Raises:
        ValueError: an unknown setting or class, or a class that is no subclass of ``cls``; names the nearest valid one.
    """
    result = {**settings, **dict.fromkeys(BOUNDS), 'ignore': False, 'type': cls}
    for pattern, entry in overrides.items():
        if not fnmatch.fnmatchcase(name, pattern):
            continue
        unmatched.discard(pattern)
        if not isinstance(entry, Mapping):
            raise ValueError(f'the entry of unit {pattern!r} must be dict(SETTING=value), not {entry!r}')
        kind = find(UNITS, entry.get('type', result['type']), f'type of unit {pattern!r}:')
        if not inspect.isclass(kind) or not issubclass(kind, cls) or kind.kind != cls.kind:
            raise ValueError(
                f'unit {name!r} is of kind {cls.kind!r}: its type must be a subclass of {cls.__name__}, '
                f'which {entry["type"]!r} is not'
            )
        own = [p for p in inspect.signature(kind).parameters if p not in PLACES]
        for key, value in entry.items():
            if key not in result and key not in own:
                valid = [*settings, *BOUNDS, 'ignore', 'type', *own]
                raise unknown('setting', key, valid, 'its settings', f' for unit {pattern!r}')
            number = key in settings or key in ('min', 'max')
            if number and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ValueError(f'setting {key}={value!r} for unit {pattern!r} must be a whole number')
        result.update(entry)
        result['type'] = kind
        result['tie'] = _tie_of(pattern, result['tie'])
    if None not in (result['min'], result['max']) and result['min'] > result['max']:
        raise ValueError(f'unit {name!r}: min={result["min"]} is above max={result["max"]}')
    return result


def _tie_of(pattern: str, given: Any) -> str | None:
    """The name of a tie: True ties what an entry matches."""
    if given is True:
        return pattern
    if given in (None, False):
        return None
    if not isinstance(given, str):
        raise ValueError(f'setting tie={given!r} for unit {pattern!r} must be a name, or True for all that it matches')
    return given


def make_unit(settings: Mapping[str, Any], known: Sequence[str], **places: Any) -> Any:
    """The unit of a ``type`` with its own options: all ``settings`` but those ``known`` to every unit."""
    own = {k: v for k, v in settings.items() if k not in (*known, *BOUNDS, 'ignore', 'type')}
    return build(UNITS, settings['type'], what='unit', options={**places, **own})


def check_matched(unmatched: set[str], names: Sequence[str]) -> None:
    """Raise for an entry that matched no unit."""
    if unmatched:
        pattern = sorted(unmatched)[0]
        hint = f'{nearest(pattern, names)} units are: {", ".join(names) or "none"}'
        raise ValueError(f'unit {pattern!r} in `units` matches nothing;{hint}')
