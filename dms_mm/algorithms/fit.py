"""The hard structure that meets targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ..space import SearchSpace
from .targets import any_keep, over, takes_part

MOST = 20.0  # nats, that a width can be scaled


@torch.no_grad()
def floor_counts(space: SearchSpace, targets: Mapping[str, float], share: float) -> Tensor:
    """(U,) long, fewest elements of each unit: ``share`` of every width, or only the units' own bounds if the targets
    leave no room (at least a factor of two) above such a floor."""
    bank = space.bank
    depth = torch.tensor([u.kind == 'depth' for u in space.units.values()], device=bank.size.device)
    low = torch.maximum(bank.min_keep, torch.ceil(share * bank.size.double()).long())
    low = torch.where(depth, bank.min_keep, bank.grid.above(low))
    keep = any_keep(space, low)
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
                least = torch.where(self.is_depth, self.blocks, self.bank.hard_keep(self.low))
                raise ValueError(
                    'the target is out of reach: with what is fixed already, the smallest structure has '
                    + ', '.join(over(self.space, self.targets, least))
                )
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

    def counts_of(self, shift: Tensor) -> Tensor:
        """(U,) counts of widths scaled by ``exp(shift)``, rounded and within their bounds."""
        k = torch.maximum(self.grid.nearest(self.want * torch.exp(shift)), self.low)
        return torch.where(self.still, self.base, k)

    def scale(self) -> tuple[Tensor, list[int]]:
        """The largest common scale that fits, and the units in the order of what rounding cost them.

        What takes no part in a resource that binds then, as it is of a part of the model, goes on until another does.
        """
        shift = torch.zeros_like(self.want)
        free = ~self.still
        while bool(free.any()):
            under, top = -MOST, MOST
            for _ in range(60):
                middle = (under + top) / 2
                trial = self.counts_of(torch.where(free, middle, shift))
                under, top = (middle, top) if self.fits(trial) else (under, middle)
            shift = torch.where(free, under, shift)
            beyond = self.counts_of(torch.where(free, top, shift))
            bound = [name for name, (count, goal) in zip(self.targets, self.used(beyond)) if count > goal]
            if not bound:
                break
            # As if all blocks were there: what is in one that is not belongs to the rest.
            masks = self.is_depth | self.bank.hard_keep(beyond)
            member = torch.stack([takes_part(self.space.counters[name], beyond, masks) for name in bound]).any(0)
            member = self.grid.tied(member.double()) > 0
            if not bool((free & member).any()):
                break
            free &= ~member
        counts = self.counts_of(shift)
        lost = (self.want * torch.exp(shift) - counts) / self.bank.size
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
