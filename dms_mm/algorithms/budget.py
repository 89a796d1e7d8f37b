"""Targets and the hard structure that meets them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping

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
        raise ValueError(f'the target must name resources, for example dict(macs=0.5), not {target!r}')
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
    if not full > smallest:
        raise ValueError(f'nothing that can be removed changes {name}, which is {full:,} for every structure')
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
    place = torch.arange(len(bank.segment), device=bank.segment.device) - bank.spread(bank.start)
    return torch.where(bank.spread(bank.hardened), bank.keep, place < bank.spread(counts))


@torch.no_grad()
def floor_counts(space: SearchSpace, targets: Mapping[str, float], share: float) -> Tensor:
    """(U,) long, fewest elements of each unit: ``share`` of every width, or only the units' own bounds if the targets
    leave no room (at least a factor of two) above such a floor."""
    bank = space.bank
    depth = torch.tensor([u.kind == 'depth' for u in space.units.values()], device=bank.size.device)
    low = torch.maximum(bank.min_keep, torch.ceil(share * bank.size.double()).long())
    low = torch.where(depth, bank.min_keep, bank.grid.above(low))
    keep = _any_keep(space, low)
    room = all(2 * space.counters[name].count(keep, bank) <= target for name, target in targets.items())
    return low if room else bank.min_keep


@torch.no_grad()
def fit_counts(
    space: SearchSpace, targets: Mapping[str, float], ratio: Tensor | None = None, low: Tensor | None = None
) -> Tensor:
    """(N,) bool: the structure nearest to the ratios that is on the grid and within every target, filled up from below.

    Blocks are decided by the ratios first and left, unless no widths come near the targets with them; widths are scaled
    together to just fit, then single elements are added where they still fit, the unit that rounding cost most first.
    """
    fit = _Fit(space, targets, space.bank.ratio.detach() if ratio is None else ratio, low)
    fit.drop_blocks()
    fit.return_blocks()
    counts, order = fit.scale()
    counts = fit.exchange(fit.fill(counts, order), order)
    return torch.where(fit.is_depth, fit.blocks, space.bank.hard_keep(counts))


class _Fit:
    """Counts of a structure while :func:`fit_counts` makes it fit.

    Attributes:
        want: (U,) counts that the ratios ask for, real numbers.
        base: (U,) counts of the units that scaling leaves alone: hardened ones and blocks.
        blocks: (N,) bool, which blocks stay.
    """

    def __init__(self, space: SearchSpace, targets: Mapping[str, float], ratio: Tensor, low: Tensor | None) -> None:
        self.space, self.targets, self.ratio = space, targets, ratio
        bank = self.bank = space.bank
        self.units = list(space.units.values())
        self.grid = bank.grid
        self.low = bank.min_keep if low is None else low
        self.want = bank.grid.tied((1 - ratio.double()) * bank.size)
        depth = torch.tensor([u.kind == 'depth' for u in self.units], device=self.want.device)
        self.fixed = bank.hardened.clone()
        self.still = self.fixed | depth
        self.is_depth = bank.spread(depth)
        self.base = bank.hard_counts(ratio)
        self.blocks = bank.hard_keep(self.base)

    def used(self, counts: Tensor) -> Iterator[tuple[float, float]]:
        """What a structure takes of every resource, and its target."""
        for name, target in self.targets.items():
            counter = self.space.counters[name]
            masks = self.blocks
            if counter.needs_masks:
                # Elements with uneven multiplicities need the exact mask, numbers alone won't do.
                masks = torch.where(self.is_depth, masks, self.bank.hard_keep(counts))
            yield counter.count_by_numbers(counts, masks), target

    def fits(self, counts: Tensor, share: float = 1.0) -> bool:
        """Whether a structure takes at most ``share`` of every target."""
        return all(count <= share * target for count, target in self.used(counts))

    def left(self, counts: Tensor) -> float:
        """Share of the target that binds which a structure leaves."""
        return 1 - max(count / target for count, target in self.used(counts))

    def drop_blocks(self) -> None:
        """Leave out the least important blocks while even the thinnest widths don't fit: they only go as a whole."""
        while not self.fits(torch.where(self.still, self.base, self.low)):
            removable = [
                u
                for u in self.units
                if u.kind == 'depth' and not self.fixed[u.index] and int(self.base[u.index]) > u.min_keep
            ]
            if not removable:
                raise ValueError('the target is out of reach with the blocks and units that are fixed already')
            unit = max(removable, key=lambda u: float(self.ratio[u.index]))
            self.base = self.grid.moved(self.base, unit.index, -1)
            self.blocks = self.bank.hard_keep(self.base)

    def return_blocks(self) -> None:
        """Take blocks back while even full widths leave more than 1% of every target."""
        closed: set[int] = set()
        while self.fits(torch.where(self.still, self.base, self.grid.high), 0.99):
            units = [u for u in self.units if u.kind == 'depth' and not self.fixed[u.index] and u.index not in closed]
            units = [u for u in units if int(self.base[u.index]) < u.bounds()[1]]
            if not units:
                return
            # That which is furthest below what its ratio asks for.
            unit = max(units, key=lambda u: float(self.want[u.index] - self.base[u.index]) / u.size)
            before, self.base = self.base, self.grid.moved(self.base, unit.index, 1)
            self.blocks = self.bank.hard_keep(self.base)
            if not self.fits(torch.where(self.still, self.base, self.low)):
                self.base = before
                self.blocks = self.bank.hard_keep(self.base)
                closed.update(self.grid.members[unit.index])

    def counts_of(self, shift: float) -> Tensor:
        """(U,) counts of widths scaled by ``exp(shift)``, rounded and within their bounds."""
        k = torch.maximum(self.grid.nearest(self.want * math.exp(shift)), self.low)
        return torch.where(self.still, self.base, k)

    def scale(self) -> tuple[Tensor, list[int]]:
        """The largest common scale that fits, and the units in the order of what rounding cost them."""
        under, over = -20.0, 20.0
        for _ in range(60):
            middle = (under + over) / 2
            under, over = (middle, over) if self.fits(self.counts_of(middle)) else (under, middle)
        counts = self.counts_of(under)
        lost = (self.want * math.exp(under) - counts) / self.bank.size
        leaders = set(self.grid.leaders)
        return counts, [u for u in torch.argsort(lost, descending=True).tolist() if u in leaders]

    def fill(self, counts: Tensor, order: list[int]) -> Tensor:
        """Add elements while any still fits.

        Where many units are alike, rounding moves them all at once and leaves much room: fill it by large steps first.
        """
        for share in (1 / 16, 1 / 32, 1 / 64, 1 / 128, 0.0):
            progress = True
            while progress and (share == 0 or self.fits(counts, 1 - share / 2)):
                progress = False
                for u in order:
                    if self.still[u] or counts[u] >= self.grid.high[u]:
                        continue
                    steps = int(share * int(self.bank.size[u]) / int(self.grid.step[u]))
                    trial = self.grid.moved(counts, u, max(1, steps))
                    if self.fits(trial):
                        counts, progress = trial, True
        return counts

    def exchange(self, counts: Tensor, order: list[int]) -> Tensor:
        """Where more than 1% is left and no element fits, since others are full: one more for some of another unit."""
        if not self.fits(counts, 0.99):
            return counts
        for u in order:
            if self.still[u] or counts[u] >= self.grid.high[u]:
                continue
            more = self.grid.moved(counts, u, 1)
            for v in order:
                most = 0 if self.still[v] or v == u else self.levels_above(v, counts)
                if most < 1:
                    continue
                few, many = 0, most
                while many - few > 1:  # the fewest of v that make room
                    trial = self.grid.moved(more, v, -((few + many) // 2))
                    few, many = (few, (few + many) // 2) if self.fits(trial) else ((few + many) // 2, many)
                trial = self.grid.moved(more, v, -many)
                if self.fits(trial) and not self.fits(trial, 0.99):
                    return trial
        return self.rescale(counts, order)

    def levels_above(self, unit: int, counts: Tensor) -> int:
        """How many possible counts a unit can go down."""
        return self.grid.level(unit, int(counts[unit])) - self.grid.level(unit, int(self.low[unit]))

    def rescale(self, counts: Tensor, order: list[int]) -> Tensor:
        """One more of a unit whose elements are coarse, and all other widths scaled to what is left."""
        best, least = counts, self.left(counts)
        for u in order:
            if self.still[u] or counts[u] >= self.grid.high[u]:
                continue
            tie, before = self.grid.members[u], self.base
            self.still[tie] = True
            more = self.grid.moved(counts, u, 1)
            self.base = self.base.clone()
            self.base[tie] = more[tie]
            if self.fits(torch.where(self.still, self.base, self.low)):
                trial = self.fill(*self.scale())
                if self.left(trial) < least:
                    best, least = trial, self.left(trial)
            self.still[tie], self.base = False, before
            if least < 0.01:
                break
        return best


@torch.no_grad()
def uniform_keep(space: SearchSpace, target: Mapping[str, float], scale_depth: bool = False) -> Tensor:
    """(N,) bool: uniform scaling to the target: every width, and on request every depth, by one factor."""
    bank = space.bank
    targets = parse_target(space, target)
    depth = torch.tensor([u.kind == 'depth' for u in space.units.values()], device=bank.ratio.device)
    lowest, high = (1 - bound.double() / bank.size.double() for bound in (bank.grid.high, bank.min_keep))

    def ratio(a: float) -> Tensor:
        r = torch.full_like(high, a)
        if not scale_depth:
            r = torch.where(depth, torch.zeros_like(r), r)
        return torch.minimum(torch.maximum(r, lowest), high)

    low, top = 0.0, 1.0
    for _ in range(40):
        middle = (low + top) / 2
        over = any(float(space.counters[n].continuous(bank, ratio(middle))) > t for n, t in targets.items())
        low, top = (middle, top) if over else (low, middle)
    return fit_counts(space, targets, ratio(top))
