"""From traced elements to channel units."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..mutables import ChannelUnit, DepthUnit, ExpertUnit, HeadDimUnit, HeadUnit
from ..registry import nearest
from ..tracing import Elements, Trace, layer_of
from .experts import chosen_among, least_of, modules_of, steps_of
from .pieces import Groups, parted
from .settings import Overrides, check_matched, is_of_depth, make_unit, settings_of

ParamDim = tuple[str, int]


def find_channel_units(
    trace: Trace,
    ignore: Sequence[str] = (),
    step: int = 1,
    min_channels: int = 1,
    round_to: int = 1,
    overrides: Overrides | None = None,
    attention: bool = True,
    strict: bool = True,
) -> list[ChannelUnit]:
    """Group live elements by the set of weights that produce them: one group, one top-k.

    Args:
        attention: whether heads and their dimensions are units.
        ignore: modules (or patterns of modules) whose produced channels stay fixed.
        step: channels per element (coarse search spaces, A.1.1).
        min_channels, round_to: bounds of the kept count, in channels.
        overrides: unit name or pattern -> the same settings, ``min``, ``max``, ``tie``, ``ignore=True``, or a unit's
            ``type`` and its options.

    Raises:
        ValueError: an entry of ``ignore`` or ``overrides`` matches nothing, or has an unknown setting or class.
    """
    elements = trace.elements
    producers = [p for p in _ordered(trace) if p in trace.producers]
    _freeze_ignored(trace, producers, ignore)
    elements.resolve()
    if not attention:
        heads = _of_heads(trace, [*trace.heads, *trace.head_dims])
        elements.freeze(np.array(sorted(heads), dtype=np.int64), 'attention, which the config leaves out')
        elements.resolve()
    given = {k: v for k, v in (overrides or {}).items() if not is_of_depth(k)}
    unmatched = set(given)
    settings = dict(step=step, min_channels=min_channels, round_to=round_to)
    ignored = False
    units: list[ChannelUnit] = []
    for name, kind, roots in _named(trace, producers, parted(trace, list(_groups(trace, producers).items()))):
        # Steps are of channels.
        usual = settings if kind is not ExpertUnit else dict.fromkeys(settings, 1)
        chosen = settings_of(name, kind, usual, given, unmatched)
        if chosen['ignore']:
            elements.freeze(np.array(roots), 'ignored by the config')
            ignored = True
        elif (unit := _unit(trace, name, roots, chosen, list(settings))) is not None:
            units.append(unit)
    if strict:
        check_matched(unmatched, [u.name for u in units])
    if ignored:
        # What is frozen now may free the rest of a composition to stand for itself.
        return find_channel_units(trace, ignore, step, min_channels, round_to, overrides, attention, False)
    return units


def set_depth_units(units: Sequence[DepthUnit], overrides: Overrides | None = None) -> list[DepthUnit]:
    """Depth units with the settings of their entries: ``min`` (or ``min_blocks``), ``max``, ``tie``, ``ignore``, or a
    ``type`` and its options.

    Raises:
        ValueError: an entry for depth units matches none, or has an unknown setting or class.
    """
    given = {k: v for k, v in (overrides or {}).items() if is_of_depth(k)}
    unmatched = set(given)
    result = []
    for unit in units:
        chosen = settings_of(unit.name, DepthUnit, dict(min_blocks=unit.min_keep), given, unmatched)
        if not chosen['ignore']:
            places = dict(name=unit.name, size=unit.size, blocks=unit.blocks, carriers=unit.carriers)
            least = min(unit.size, chosen['min_blocks'] if chosen['min'] is None else chosen['min'])
            places.update(min_keep=least, max_keep=chosen['max'], tie=chosen['tie'])
            result.append(make_unit(chosen, ['min_blocks'], **places))
    check_matched(unmatched, [u.name for u in units])
    return result


def _groups(trace: Trace, producers: Sequence[ParamDim]) -> dict[tuple[int, ...], list[int]]:
    """Live elements that are consumed, by the producers (their places in ``producers``) that they have in common."""
    elements = trace.elements
    masked = [trace.params[name][dim] for name, dim in trace.consumers] + [ids for _, ids in trace.requests]
    masked += [choice.ids for choice in trace.choices]
    consumed = set(_simple(elements, *masked).tolist())
    frozen = set(elements.frozen())
    for name, dim in producers:
        # What nobody reads of a width of which other parts are read goes, too.
        whole = set(_simple(elements, trace.params[name][dim]).tolist())
        consumed |= whole if whole & consumed else set()
    family = elements.families()
    signature: dict[int, list[int]] = {}
    place: dict[int, tuple[int, int]] = {}
    # What a grouped convolution takes alone must not vanish from it: its channels are a unit of their own.
    grouped = [(name, d) for name in trace.grouped for d in (0, 1)]
    for k, (name, dim) in enumerate([*producers, *(g for g in grouped if g not in trace.producers)]):
        line = elements.parts(trace.params[name][dim]).ravel()
        roots, position = np.unique(line, return_index=True)
        for root, p in zip(roots.tolist(), position.tolist()):
            if root >= 0 and (k < len(producers) or root in signature):
                signature.setdefault(root, []).append(k)
                place.setdefault(root, (k, p))
    groups: dict[tuple[int, ...], list[int]] = {}
    for root in sorted(signature, key=place.__getitem__):
        if root not in frozen and root in consumed:
            groups.setdefault((*signature[root], -1 - int(family[root])), []).append(root)
    return groups


def _named(
    trace: Trace, producers: Sequence[ParamDim], groups: Groups
) -> Iterator[tuple[str, type[ChannelUnit], list[int]]]:
    """Name, kind and elements of each group, called after the module that produces them."""
    heads, head_dims = (_of_heads(trace, lists) for lists in (trace.heads, trace.head_dims))
    experts = chosen_among(trace)
    names: dict[str, int] = {}
    for key, roots in groups:
        kind: type[ChannelUnit] = ChannelUnit
        if roots[0] in experts:
            kind = ExpertUnit
        elif roots[0] in heads:
            kind = HeadUnit
        elif roots[0] in head_dims:
            kind = HeadDimUnit
        module = layer_of(producers[key[0]][0]) or producers[key[0]][0]
        module += '' if kind is ChannelUnit else f'/{kind.kind}'
        names[module] = names.get(module, 0) + 1
        yield module if names[module] == 1 else f'{module}#{names[module]}', kind, roots


def _of_heads(trace: Trace, lists: Sequence[np.ndarray]) -> set[int]:
    """The simple elements of ``lists``, without the channels of maps that merely meet in a product: heads and their
    dimensions are parts of the channels that a layer makes, or a linear layer makes them."""
    elements = trace.elements
    every = elements.parts(np.arange(len(elements)))
    composed = every[(every >= 0).sum(1) > 1]
    maps = [trace.params[name][dim] for name, dim in trace.producers if len(trace.params[name]) > 2]
    plain = set(_simple(elements, *maps).tolist()) - set(composed[composed >= 0].tolist())
    return set(_simple(elements, *lists).tolist()) - plain


def _unit(
    trace: Trace, name: str, roots: list[int], settings: Mapping[str, Any], known: Sequence[str]
) -> ChannelUnit | None:
    """The unit of a group, None if it has but one element."""
    width = math.lcm(max(1, int(settings['step'])), steps_of(trace, roots))
    parts = [np.array(roots[i : i + width]) for i in range(0, len(roots), width)]
    if len(parts) < 2:
        return None
    several = width == 1 and not set(_simple(trace.elements, *trace.several).tolist()).isdisjoint(roots)
    fewest = settings['min_channels'] if settings['min'] is None else settings['min']
    least = min(len(parts), max(1 + several, -(-int(fewest) // width)))
    multiple = math.lcm(width, max(1, int(settings['round_to']))) // width
    most = None if settings['max'] is None else min(len(parts), settings['max'] // width)
    places = dict(name=name, size=len(parts), min_keep=least, max_keep=most, round_to=multiple, roots=parts)
    places['tie'] = settings['tie']
    if issubclass(settings['type'], ExpertUnit):
        least = max(least, least_of(trace, roots))
        if least >= len(roots) or width > 1:
            return None
        places.update(min_keep=least, blocks=modules_of(trace, roots))
    unit: ChannelUnit = make_unit(settings, known, **places)
    return unit


def _simple(elements: Elements, *lists: np.ndarray) -> np.ndarray:
    """The simple elements that ids are composed of, sorted."""
    if not lists:
        return np.zeros(0, dtype=np.int64)
    roots = np.unique(np.concatenate([elements.parts(ids).ravel() for ids in lists]))
    return roots[roots >= 0]


def _ordered(trace: Trace) -> list[ParamDim]:
    """Parameter dimensions in the order in which the forward meets their modules."""
    position = {path: i for i, path in enumerate(trace.order)}
    keys = [(name, d) for name, dims in trace.params.items() for d in range(len(dims))]
    return sorted(keys, key=lambda k: position.get(k[0].rpartition('.')[0], len(position)))


def _freeze_ignored(trace: Trace, producers: Sequence[ParamDim], ignore: Sequence[str]) -> None:
    for pattern in ignore:
        hits = [
            (name, dim)
            for name, dim in producers
            if fnmatch.fnmatchcase(name, pattern)
            or fnmatch.fnmatchcase(name.rpartition('.')[0], pattern)
            or name.startswith(pattern + '.')
        ]
        if not hits:
            near = nearest(pattern, [name.rpartition('.')[0] for name, _ in producers])
            raise ValueError(f'{pattern!r} in `ignore` matches no layer of the model{near and ";" + near}')
        for name, dim in hits:
            trace.elements.freeze(trace.params[name][dim], f'ignored by the config ({pattern})')
