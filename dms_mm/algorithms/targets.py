"""Targets: shares, counts and amounts with units, of the whole model and of its parts, as absolute numbers."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..registry import RESOURCES, registered, unknown
from ..resources import Resource, amount
from ..space import SearchSpace
from ..topk import TopkBank


class Targets(dict[str, float]):
    """Resource -> absolute target. What is of this kind is no share, however small."""


def with_parts(target: Any, parts: Any) -> dict[str, Any]:
    """One target with those of parts: ``dict(backbone=dict(macs=0.6))`` becomes ``{'backbone/macs': 0.6}``.

    Raises:
        ValueError: no such dicts, or a target that is given twice.
    """
    if not isinstance(target, Mapping):
        raise ValueError(f'the target must name resources, for example dict(macs=0.5), not {target!r}')
    found = _flat(target)
    if not isinstance(parts, Mapping):
        raise ValueError(f'`parts` must name modules, for example dict(backbone=dict(macs=0.6)), not {parts!r}')
    for part, own in parts.items():
        if not isinstance(own, Mapping) or not own:
            raise ValueError(f'`parts` of {part!r} must name resources, for example dict(macs=0.6), not {own!r}')
        for name, value in own.items():
            if f'{part}/{name}' in found:
                raise ValueError(f'the target {part}/{name} is given twice, in `target` and in `parts`')
            found[f'{part}/{name}'] = value
    return found


def _flat(target: Mapping[str, Any], above: str = '') -> dict[str, Any]:
    """Settings of a command line nest at every dot, also at those of a module's name: ``layer1.0/macs``."""
    found: dict[str, Any] = {}
    for name, value in target.items():
        found |= _flat(value, f'{above}{name}.') if isinstance(value, Mapping) else {f'{above}{name}': value}
    return found


def parse_target(space: SearchSpace, target: Mapping[str, Any], parts: Mapping[str, Any] | None = None) -> Targets:
    """Absolute targets of shares (at most 1.0, or ``'40%'``) or counts (``3.9e8``, ``'390M'``, ``'3ms'``, ``'16MB'``);
    resources that the space lacks are added to it, registered ones and those of parts (``'backbone/macs'``).

    Args:
        parts: module name or pattern -> targets of what it has, shares of the part's own.

    Raises:
        ValueError: names the resource, what was asked for, and what the space can reach.
    """
    exact = isinstance(target, Targets)
    target = with_parts(target, parts or {})
    if not target:
        raise ValueError('the target is empty; give for example target=dict(macs=0.5)')
    for name in target:
        if name not in space.counters:
            whole = str(name).rpartition('/')[2]
            if whole not in space.counters and not registered(RESOURCES, whole):
                raise unknown('resource', whole, [*space.counters, *RESOURCES.module_dict])
            space.add_resource(name)
    least = minimal(space)
    targets = Targets()
    for name, value in target.items():
        number, share = _number(name, value, space.counters[name].unit)
        share = not exact and number <= 1 if share is None else share
        targets[name] = _absolute(name, value, number, share, space.supernet[name], least[name])
    return targets


def _number(name: str, value: object, unit: str) -> tuple[float, bool | None]:
    """A target as a number, and whether it is a share, None if the number itself says it."""
    share = None
    if isinstance(value, str):
        try:
            value, share = amount(value, unit)
        except ValueError as error:
            raise ValueError(f'target {name}={value!r} {error}') from None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f'target {name}={value!r} must be a number: a share of at most 1.0, or a count')
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f'target {name}={value} must be above 0')
    return float(value), share


def _absolute(name: str, given: object, number: float, share: bool, full: float, least: float) -> float:
    """A number as a count between the smallest structure's and the supernet's."""
    if not full > least:
        raise ValueError(f'nothing that can be removed changes {name}, which is {full:,} for every structure')
    count = number * full if share else number
    asked = f'target {name}={given if isinstance(given, str) else format(number, "g")}'
    if count > full:
        raise ValueError(
            f'{asked} is above the supernet, which has {full:,}; give a share of at most 1.0 or a smaller count'
        )
    if count < least and 1 < number <= 100 and not isinstance(given, str):
        raise ValueError(
            f'{asked} is, taken as a share, above the supernet, and taken as a count below the smallest structure; '
            f'give a share of at most 1.0, or a count from {least:,} to {full:,}'
        )
    if count < least:
        exact = format(count, ',.0f' if count >= 100 else '.4g')
        raise ValueError(
            f'{asked} ({exact}) is out of reach: the smallest structure of this space has '
            f'{least:,} of {full:,}; raise the target, or search more (lower min_channels, fewer ignore)'
        )
    return count


def minimal(space: SearchSpace) -> dict[str, float]:
    """Counts of the smallest structure."""
    bank = space.bank
    keep = any_keep(space, bank.min_keep)
    return {name: counter.count(keep, bank) for name, counter in space.counters.items()}


def any_keep(space: SearchSpace, counts: Tensor) -> Tensor:
    """(N,) bool: the first ``counts`` elements of each unit, fixed units as they are; for counting alone."""
    bank = space.bank
    place = torch.arange(len(bank.segment), device=bank.segment.device) - bank.spread(bank.start)
    return torch.where(bank.spread(fixed(bank)), bank.keep, place < bank.spread(counts))


def fixed(bank: TopkBank) -> Tensor:
    """(U,) bool: hardened units, but those that a search holds in its last phase alone and may let go."""
    return bank.hardened & ~bank.get_buffer('held') if 'held' in bank.remembered else bank.hardened


def over(space: SearchSpace, targets: Mapping[str, float], keep: Tensor) -> list[str]:
    """The targets that a structure, ``keep`` (N,) bool, is above: ``'macs 1,234 of at most 1,000'``."""
    counts = {name: space.counters[name].count(keep, space.bank) for name in targets}
    return [f'{name} {counts[name]:,} of at most {goal:,.8g}' for name, goal in targets.items() if counts[name] > goal]


def takes_part(resource: Resource, kept: Tensor, masks: Tensor) -> Tensor:
    """(U,) bool: the units that a resource depends on at (U,) kept numbers; those of a part alone, for a part's."""
    kept, masks = kept.double().requires_grad_(), masks.double()
    with torch.enable_grad():
        value = resource.value(kept, masks)
        grad = torch.autograd.grad(value, kept, allow_unused=True)[0] if value.requires_grad else None
    return torch.zeros_like(kept, dtype=torch.bool) if grad is None else grad != 0
