"""From traced elements to channel units."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..mutables import ChannelUnit
from ..tracing import Trace


def find_channel_units(
    trace: Trace,
    ignore: Sequence[str] = (),
    step: int = 1,
    min_channels: int = 1,
    round_to: int = 1,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[ChannelUnit]:
    """Group live elements by the set of weights that produce them: one group, one top-k.

    Args:
        ignore: modules (or patterns of modules) whose produced channels stay fixed.
        step: channels per element (coarse search spaces, A.1.1).
        min_channels, round_to: bounds of the kept count, in channels.
        overrides: unit name or pattern -> the same settings, or ``ignore=True``.

    Raises:
        ValueError: an entry of ``ignore`` or ``overrides`` matches nothing.
    """
    elements = trace.elements
    producers = [p for p in _ordered(trace) if p in trace.producers]
    _freeze_ignored(trace, producers, ignore)
    consumed: set[int] = set()
    for name, dim in trace.consumers:
        consumed.update(np.unique(elements.find(trace.params[name][dim])).tolist())
    frozen = set(elements.frozen())

    signature: dict[int, list[int]] = {}
    place: dict[int, tuple[int, int]] = {}
    for k, (name, dim) in enumerate(producers):
        line = elements.find(trace.params[name][dim]).tolist()
        for position, root in enumerate(dict.fromkeys(line)):
            signature.setdefault(root, []).append(k)
            place.setdefault(root, (k, position))
    groups: dict[tuple[int, ...], list[int]] = {}
    for root in sorted(signature, key=place.__getitem__):
        if root not in frozen and root in consumed:
            groups.setdefault(tuple(signature[root]), []).append(root)

    overrides = dict(overrides or {})
    unmatched = set(overrides)
    units: list[ChannelUnit] = []
    names: dict[str, int] = {}
    for key, roots in groups.items():
        module = producers[key[0]][0].rpartition('.')[0] or producers[key[0]][0]
        names[module] = names.get(module, 0) + 1
        name = module if names[module] == 1 else f'{module}#{names[module]}'
        settings: dict[str, Any] = dict(step=step, min_channels=min_channels, round_to=round_to)
        for pattern, entry in overrides.items():
            if fnmatch.fnmatchcase(name, pattern):
                unmatched.discard(pattern)
                unknown = set(entry) - {'step', 'min_channels', 'round_to', 'ignore'}
                if unknown:
                    raise ValueError(f'unknown setting {sorted(unknown)[0]!r} for unit {pattern!r}')
                settings.update(entry)
        if settings.pop('ignore', False):
            elements.freeze(np.array(roots), 'ignored by the config')
            continue
        width = max(1, int(settings['step']))
        parts = [np.array(roots[i : i + width]) for i in range(0, len(roots), width)]
        if len(parts) < 2:
            continue
        unit = ChannelUnit(
            name=name,
            size=len(parts),
            min_keep=min(len(parts), max(1, -(-int(settings['min_channels']) // width))),
            round_to=max(1, int(settings['round_to']) // width),
            roots=parts,
        )
        units.append(unit)
    if unmatched:
        raise ValueError(
            f'unit {sorted(unmatched)[0]!r} in `units` matches nothing; units are: {", ".join(u.name for u in units)}'
        )
    return units


def _ordered(trace: Trace) -> list[tuple[str, int]]:
    """Parameter dimensions in the order in which the forward meets their modules."""
    position = {path: i for i, path in enumerate(trace.order)}
    keys = [(name, d) for name, dims in trace.params.items() for d in range(len(dims))]
    return sorted(keys, key=lambda k: position.get(k[0].rpartition('.')[0], len(position)))


def _freeze_ignored(trace: Trace, producers: Sequence[tuple[str, int]], ignore: Sequence[str]) -> None:
    for pattern in ignore:
        hits = [
            (name, dim)
            for name, dim in producers
            if fnmatch.fnmatchcase(name, pattern)
            or fnmatch.fnmatchcase(name.rpartition('.')[0], pattern)
            or name.startswith(pattern + '.')
        ]
        if not hits:
            raise ValueError(f'{pattern!r} in `ignore` matches no layer of the model')
        for name, dim in hits:
            trace.elements.freeze(trace.params[name][dim], f'ignored by the config ({pattern})')
