"""Targets and the hard structure that meets them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping

import torch
from torch import Tensor

from ..registry import RESOURCES, registered, unknown
from ..space import SearchSpace


def parse_target(space: SearchSpace, target: Mapping[str, float]) -> dict[str, float]:
    """Absolute targets from shares (at most 1.0) or counts; registered resources that the space lacks are added to it.

    Raises:
        ValueError: names the resource, what was asked for, and what the space can reach.
    """
    if not isinstance(target, Mapping):
        raise ValueError(
            f'the target must be dict(RESOURCE=share or count), for example dict(macs=0.5), not {target!r}'
        )
    if not target:
        raise ValueError('the target is empty; give for example target=dict(macs=0.5)')
    for name in target:
        if name not in space.counters:
            if not registered(RESOURCES, name):
                raise unknown('resource', name, [*space.counters, *RESOURCES.module_dict])
            space.add_resource(name)
    smallest = minimal(space)
    return {name: _absolute(name, value, space.supernet[name], smallest[name]) for name, value in target.items()}


def _absolute(name: str, value: object, full: float, smallest: float) -> float:
    """A share or count as a count between the smallest structure's and the supernet's."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f'target {name}={value!r} must be a number: a share of at most 1.0, or a count')
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f'target {name}={value} must be above 0')
    value = float(value)
    count = value * full if value <= 1 else value
    asked = f'target {name}={value:g}'
    if count > full:
        raise ValueError(
            f'{asked} is above the supernet, which has {full:,}; give a share of at most 1.0 or a smaller count'
        )
    if count < smallest and 1 < value <= 100:
        raise ValueError(
            f'{asked} is, taken as a share, above the supernet, and taken as a count below the smallest structure; '
            f'give a share of at most 1.0, or a count from {smallest:,} to {full:,}'
        )
    if count < smallest:
        raise ValueError(
            f'{asked} ({count:,.0f}) is out of reach: the smallest structure of this space has '
            f'{smallest:,} of {full:,}; raise the target, or search more (lower min_channels, fewer ignore)'
        )
    return count


def minimal(space: SearchSpace) -> dict[str, float]:
    """Counts of the smallest structure."""
    bank = space.bank
    keep = _any_keep(space, bank.min_keep)
    return {name: counter.count(keep, bank) for name, counter in space.counters.items()}


def _any_keep(space: SearchSpace, counts: Tensor) -> Tensor:
    """(N,) bool: the first ``counts`` elements of each unit, hardened units as they are; for counting alone."""
    bank = space.bank
    place = torch.arange(len(bank.segment), device=bank.segment.device) - bank.start[bank.segment]
    return torch.where(bank.hardened[bank.segment], bank.keep, place < counts[bank.segment])


@torch.no_grad()
def floor_counts(space: SearchSpace, targets: Mapping[str, float], share: float) -> Tensor:
    """(U,) long, fewest elements of each unit: ``share`` of every width, or only the units' own bounds if the targets
    leave no room (at least a factor of two) above such a floor."""
    bank = space.bank
    depth = torch.tensor([u.kind == 'depth' for u in space.units.values()], device=bank.size.device)
    low = torch.maximum(bank.min_keep, torch.ceil(share * bank.size.double()).long())
    low = torch.where(depth, bank.min_keep, low)
    keep = _any_keep(space, low)
    room = all(2 * space.counters[name].count(keep, bank) <= target for name, target in targets.items())
    return low if room else bank.min_keep


@torch.no_grad()
def fit_counts(
    space: SearchSpace, targets: Mapping[str, float], ratio: Tensor | None = None, low: Tensor | None = None
) -> Tensor:
    """(N,) bool: the structure nearest to the ratios that is within every target, filled up from below.

    Blocks are decided by the ratios first and left; widths are scaled together to just fit, then single elements are
    added where they still fit, the unit that rounding cost most first.
    """
    bank = space.bank
    units = list(space.units.values())
    ratio = bank.ratio.detach() if ratio is None else ratio
    low = bank.min_keep if low is None else low
    want = (1 - ratio.double()) * bank.size
    depth = torch.tensor([u.kind == 'depth' for u in units], device=want.device)
    fixed = bank.hardened.clone()
    step = torch.tensor([u.round_to for u in units], device=want.device)
    base = bank.hard_counts(ratio)
    blocks = bank.hard_keep(base)

    def counts_of(shift: float) -> Tensor:
        k = torch.floor(want * math.exp(shift) / step + 0.5) * step
        k = torch.minimum(torch.maximum(k, low), bank.size).long()
        return torch.where(fixed | depth, base, k)

    is_depth = depth[bank.segment]

    def fits(counts: Tensor, keep: Tensor, share: float = 1.0) -> bool:
        for name, target in targets.items():
            counter = space.counters[name]
            # Elements with uneven multiplicities need the exact mask, numbers alone won't do.
            masks = torch.where(is_depth, keep, bank.hard_keep(counts)) if counter.needs_masks else keep
            if counter.count_by_numbers(counts, masks) > share * target:
                return False
        return True

    # A block can only go as a whole: drop the least important ones while even the thinnest widths don't fit.
    while not fits(torch.where(fixed | depth, base, low), blocks):
        removable = [u for u in units if u.kind == 'depth' and not fixed[u.index] and int(base[u.index]) > u.min_keep]
        if not removable:
            raise ValueError('the target is out of reach with the blocks and units that are fixed already')
        unit = max(removable, key=lambda u: float(ratio[u.index]))
        base[unit.index] -= 1
        blocks = bank.hard_keep(base)
    under, over = -20.0, 20.0
    for _ in range(60):
        middle = (under + over) / 2
        under, over = (middle, over) if fits(counts_of(middle), blocks) else (under, middle)
    counts = counts_of(under)
    exact = want * math.exp(under)
    order = torch.argsort((exact - counts) / bank.size, descending=True).tolist()
    # Where many units are alike, rounding moves them all at once and leaves much room: fill it by large steps first.
    for share in (1 / 16, 1 / 32, 1 / 64, 1 / 128, 0.0):
        progress = True
        while progress and (share == 0 or fits(counts, blocks, 1 - share / 2)):
            progress = False
            for u in order:
                size = int(bank.size[u])
                if fixed[u] or depth[u] or counts[u] >= size:
                    continue
                trial = counts.clone()
                more = max(1, int(share * size / int(step[u]))) * int(step[u])
                trial[u] = min(int(trial[u]) + more, size)
                if fits(trial, blocks):
                    counts, progress = trial, True
    return torch.where(is_depth, blocks, bank.hard_keep(counts))


@torch.no_grad()
def uniform_keep(space: SearchSpace, target: Mapping[str, float], scale_depth: bool = False) -> Tensor:
    """(N,) bool: uniform scaling to the target: every width, and on request every depth, by one factor."""
    bank = space.bank
    targets = parse_target(space, target)
    depth = torch.tensor([u.kind == 'depth' for u in space.units.values()], device=bank.ratio.device)
    high = 1 - bank.min_keep.double() / bank.size.double()

    def ratio(a: float) -> Tensor:
        r = torch.full_like(high, a)
        if not scale_depth:
            r = torch.where(depth, torch.zeros_like(r), r)
        return torch.minimum(r, high)

    low, top = 0.0, 1.0
    for _ in range(40):
        middle = (low + top) / 2
        over = any(float(space.counters[n].continuous(bank, ratio(middle))) > t for n, t in targets.items())
        low, top = (middle, top) if over else (low, middle)
    return fit_counts(space, targets, ratio(top))
