"""Budgets: what a target means in a space, and the structures that meet it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..resources import shown
from ..space import SearchSpace
from .ending import Ending
from .fit import fit_counts, floor_counts
from .targets import Targets, fixed, minimal, parse_target, with_parts

__all__ = [
    'Ending',
    'Preview',
    'Targets',
    'fit_counts',
    'floor_counts',
    'parse_target',
    'preview',
    'minimal',
    'uniform_keep',
    'with_parts',
]


@torch.no_grad()
def uniform_keep(space: SearchSpace, target: Mapping[str, Any], scale_depth: bool = False) -> Tensor:
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
        above = any(float(space.counters[n].continuous(bank, ratio(middle))) > t for n, t in targets.items())
        low, top = (middle, top) if above else (low, middle)
    return fit_counts(space, targets, ratio(top))


@dataclass(frozen=True)
class Preview:
    """What targets mean in a space, before anything is trained.

    Attributes:
        least, uniform, full: counts of the smallest structure, of uniform scaling to the targets, and of the supernet.
        targets: absolute ones; empty where none are asked for.
        units: what each resource is counted in.
    """

    least: dict[str, float]
    uniform: dict[str, float]
    full: dict[str, float]
    targets: Targets
    units: dict[str, str]

    def __str__(self) -> str:
        rows = [['resource', 'smallest', 'full', *(['target', 'uniform', 'of the target'] if self.targets else [])]]
        for name in self.full:
            unit, goal = self.units[name], self.targets.get(name)
            row = [name, shown(self.least[name], unit), shown(self.full[name], unit)]
            if self.targets:
                row += ['' if goal is None else shown(goal, unit), shown(self.uniform[name], unit)]
                row.append('' if goal is None else f'{self.uniform[name] / goal:.1%}')
            rows.append(row)
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        if self.targets:
            lines.append(Ending.of(self.targets, self.uniform).binding('uniform scaling meets all targets'))
        return '\n'.join(lines)


@torch.no_grad()
def preview(space: SearchSpace, target: Mapping[str, Any] | None = None, parts: Any = None) -> Preview:
    """What the targets mean in a space; the space stays as it is.

    Raises:
        ValueError: a wrong target, or targets that no structure meets together; names them.
    """
    targets = parse_target(space, target or {}, parts) if target or parts else Targets()
    uniform: dict[str, float] = {}
    bank = space.bank
    hardened = bank.hardened.clone()
    try:
        bank.hardened.copy_(fixed(bank))  # of a search that is resumed in its last phase
        if targets:
            keep = uniform_keep(space, targets)
            uniform = {name: counter.count(keep, bank) for name, counter in space.counters.items()}
    finally:
        bank.hardened.copy_(hardened)
    units = {name: counter.unit for name, counter in space.counters.items()}
    return Preview(minimal(space), uniform, dict(space.supernet), targets, units)
