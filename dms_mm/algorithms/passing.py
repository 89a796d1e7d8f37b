"""Several budgets on the way of one search, and structures of budgets that it was not asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..slimming.structure import Structure
from ..space import SearchSpace
from .budget import fit_counts, parse_target
from .rules import Rule
from .strategies.structures import structure_of, untouched

FURTHEST = 40.0  # nats that widths are scaled by


class Learnt(Protocol):
    """What of a :class:`~.search.Search` structures are made from."""

    space: SearchSpace
    rule: Rule


def budgets_of(target: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One target for every budget: lists of equal length take part in turn, single values in all of them.

    Raises:
        ValueError: lists of different lengths, or an empty one.
    """
    if not isinstance(target, Mapping):
        return [target]  # what is wrong with it is said where it is read
    lists = {name: list(value) for name, value in target.items() if isinstance(value, (list, tuple))}
    if not lists:
        return [dict(target)]
    numbers = {name: len(values) for name, values in lists.items()}
    if len(set(numbers.values())) > 1 or 0 in numbers.values():
        shown = ', '.join(f'{name} {number}' for name, number in numbers.items())
        raise ValueError(f'lists of budgets must be of one length, not {shown}')
    return [
        {name: lists[name][k] if name in lists else value for name, value in target.items()}
        for k in range(next(iter(numbers.values())))
    ]


def parse_budgets(space: SearchSpace, target: Mapping[str, Any]) -> list[dict[str, float]]:
    """Absolute targets of every budget, in the order in which a search comes to them.

    Raises:
        ValueError: a wrong target, one above the largest structure of the space, or budgets that do not fall.
    """
    budgets = [parse_target(space, one) for one in budgets_of(target)]
    for earlier, later in zip(budgets, budgets[1:]):
        if any(later[n] > earlier[n] for n in later) or later == earlier:
            raise ValueError(f'budgets must fall from one to the next: target={dict(target)!r}')
    if not space.bank.grid.plain:
        most = largest(space, list(budgets[0]))
        if all(most[name] < 0.99 * goal for name, goal in budgets[0].items()):
            shown = ', '.join(f'{name} {count:,}' for name, count in most.items())
            raise ValueError(
                f'the target is above the largest structure of this space, which has {shown}: lower it, or raise `max`'
            )
    return budgets


@torch.no_grad()
def largest(space: SearchSpace, names: Sequence[str]) -> dict[str, float]:
    """Counts of the largest structure on the grid, whatever a search holds in its last phase."""
    bank = space.bank
    fixed = bank.hardened
    if 'held' in bank.remembered:
        fixed = fixed & ~bank.get_buffer('held')
    rank = torch.round(bank.rank.double() * bank.spread(bank.size)).long()
    keep = torch.where(bank.spread(fixed), bank.keep, rank >= bank.spread(bank.size - bank.grid.high))
    return {name: space.counters[name].count(keep, bank) for name in names}


def legs_of(space: SearchSpace, budgets: Sequence[Mapping[str, float]]) -> tuple[float, ...]:
    """The part of the way, in nats of the resources, that leads to every budget."""
    stops = [{name: float(space.supernet[name]) for name in budgets[0]}, *budgets]
    ways = [sum(math.log(a[name] / b[name]) for name in b) for a, b in zip(stops, stops[1:])]
    total = sum(ways)
    return tuple(way / total for way in ways) if total > 0 else tuple(1 / len(ways) for _ in ways)


def names_of(space: SearchSpace, budgets: Sequence[Mapping[str, float]]) -> list[str]:
    """``'0.30'`` for every budget: its share of the first resource, with as many digits as tell them apart."""
    name = next(iter(budgets[0]))
    falling = [n for n in budgets[0] if len({b[n] for b in budgets}) == len(budgets)]
    name = falling[0] if falling else name
    shares = [budget[name] / space.supernet[name] for budget in budgets]
    for digits in range(2, 17):
        names = [f'{share:.{digits}f}' for share in shares]
        if len(set(names)) == len(names):
            return names
    return [str(number) for number in range(len(budgets))]


class Passed:
    """What a search remembers of the budgets that it has passed; kept in the bank, and so in checkpoints."""

    def __init__(self, search: Learnt, budgets: Sequence[Mapping[str, float]]) -> None:
        self.search, self.space, self.bank = search, search.space, search.space.bank
        self.number = number = len(budgets) - 1
        self.goals = [list(budget.values()) for budget in budgets[:number]]
        if number:
            none = torch.zeros(number, len(budgets[0]), dtype=torch.float64)
            self.bank.remember('passed_goals', none)
            ratio, importance = self.bank.ratio.detach(), self.bank.importance
            self.bank.remember('passed', torch.zeros(number, dtype=torch.bool))
            self.bank.remember('passed_ratio', torch.zeros_like(ratio).repeat(number, 1))
            self.bank.remember('passed_importance', torch.zeros_like(importance).repeat(number, 1))
            self.bank.remember('passed_keep', torch.zeros_like(self.bank.keep).repeat(number, 1))

    def done(self) -> list[int]:
        """The budgets that are passed; what an earlier search remembers of others is none of them."""
        if not self.number:
            return []
        passed, goals = self.bank.get_buffer('passed').tolist(), self.bank.get_buffer('passed_goals').tolist()
        return [k for k in range(self.number) if passed[k] and goals[k] == self.goals[k]]

    @torch.no_grad()
    def add(self, number: int, keep: Tensor) -> None:
        """Remember the search as it is, and the structure ``keep`` (N,) bool of this budget."""
        self.bank.get_buffer('passed_ratio')[number] = self.bank.ratio.detach()
        self.bank.get_buffer('passed_importance')[number] = self.bank.importance
        self.bank.get_buffer('passed_keep')[number] = keep
        goals = self.bank.get_buffer('passed_goals')
        goals[number] = goals.new_tensor(self.goals[number])
        self.bank.get_buffer('passed')[number] = True

    def structure(self, number: int) -> Structure:
        return structure_of(self.space, self.bank.get_buffer('passed_keep')[number])

    def points(self) -> list[tuple[Tensor, Tensor]]:
        """Ratios and importances at every budget that is passed, and as they are now."""
        known = [
            (self.bank.get_buffer('passed_ratio')[k], self.bank.get_buffer('passed_importance')[k]) for k in self.done()
        ]
        now = self.bank.ratio.detach(), self.bank.importance
        return [(ratio.clone(), importance.clone()) for ratio, importance in (*known, now)]


def retargeted(search: Learnt, passed: Passed, target: Mapping[str, Any]) -> Tensor:
    """(N,) bool: the structure of another budget, from what a search has learnt; see :meth:`Search.retarget`."""
    space, bank = search.space, search.space.bank
    with untouched(space), torch.no_grad():
        bank.hardened &= ~bank.get_buffer('held')
        targets = parse_target(space, target)
        points = passed.points()
        above = [_excess(space, targets, ratio) for ratio, _ in points]
        ratio, importance = _between(points, above)
        bank.importance.copy_(importance)
        bank.refresh()
        low = search.rule.lowest(targets)
        return fit_counts(space, targets, landed(space, targets, ratio, low), low)


def _excess(space: SearchSpace, targets: Mapping[str, float], ratio: Tensor) -> float:
    """How far ratios are above the targets, in nats of the resource furthest above its own."""
    return max(
        math.log(float(space.counters[name].continuous(space.bank, ratio.double())) / goal)
        for name, goal in targets.items()
    )


def _between(points: Sequence[tuple[Tensor, Tensor]], above: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Ratios between the two budgets that enclose a target, widths by their logarithms, or those of the nearest one."""
    for k in range(len(points) - 1):
        if above[k] >= 0 > above[k + 1]:
            part = above[k] / (above[k] - above[k + 1])
            theta = [torch.log((1 - ratio).double().clamp_min(1e-6)) for ratio, _ in points[k : k + 2]]
            # What goes between the two is ordered as it was when all of it was there.
            return 1 - torch.exp((1 - part) * theta[0] + part * theta[1]), points[k][1]
    nearest = 0 if above[0] < 0 else len(points) - 1
    return points[nearest][0].double(), points[nearest][1]


def landed(space: SearchSpace, targets: Mapping[str, float], ratio: Tensor, low: Tensor) -> Tensor:
    """(U,) float64: all units scaled by one number, blocks too, so that real-valued counts just meet the targets."""
    bank = space.bank
    theta = -torch.log((1 - ratio).double().clamp_min(1e-6))
    size = bank.size.double()
    least, most = 1 - bank.grid.high.double() / size, 1 - low.double().clamp_min(0.25) / size

    def scaled(shift: float) -> Tensor:
        return torch.minimum(torch.maximum(1 - torch.exp(-(theta + shift)), least), most)

    under, over = FURTHEST, -FURTHEST  # shifts that fit, and that don't
    for _ in range(60):
        middle = (under + over) / 2
        under, over = (middle, over) if _excess(space, targets, scaled(middle)) <= 0 else (under, middle)
    return scaled(under)
