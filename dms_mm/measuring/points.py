"""At which counts an operator is measured."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from ..resources import Products
from ..resources.latency import Operator
from ..space import SearchSpace

# Shares of the whole, the most telling first; ``True`` for one step more than the multiple there.
MARKS = [
    (1 / 2, False), (1 / 4, False), (3 / 4, False), (1 / 2, True), (1 / 8, False), (1 / 4, True), (3 / 8, False),
    (7 / 8, False), (5 / 8, False), (3 / 4, True), (1 / 16, False), (1 / 8, True), (1 / 32, False), (7 / 8, True),
]  # fmt: skip


def points_of(size: int, most: int, multiple: int, step: int = 1) -> list[int]:
    """Growing counts from the fewest to ``size``, at most ``most`` of them: at multiples of what the device likes, and
    one step above some of those, where its time jumps.

    Args:
        multiple: 8, 16 or 32.
        step: only multiples of it are ever kept.
    """
    least = min(step, size)
    if math.ceil(size / step) <= most:
        return [*range(least, size, step), size]
    wide = math.lcm(multiple, step)
    found = {least, size}
    for share, above in MARKS:
        near = round(share * size / wide) * wide + (step if above else 0)
        if not least < near < size:
            near = round(share * size / step) * step
        if least < near < size and len(found) < most:
            found.add(near)
    return sorted(found)


def sizes_of(operator: Operator, space: SearchSpace, most: int, multiple: int) -> list[tuple[int, ...]]:
    """Sizes of a program's variables over the grid of its coordinates.

    Args:
        most: points of an axis where there are two; twice as many where there is one.
    """
    program = operator.program
    units = list(space.units.values())
    steps = [1 if u is None else u[1] * units[u[0]].round_to for u in operator.units]
    if program.joint:
        return _together(operator, space, most)
    most = most if len(program.sizes) == 2 else 2 * most
    lines = [points_of(n, most, multiple, step) for n, step in zip(program.sizes, steps)]
    return list(itertools.product(*lines))


@torch.no_grad()
def _together(operator: Operator, space: SearchSpace, most: int) -> list[tuple[int, ...]]:
    """Of joint variables, which may depend on each other (heads, what each has, and both together): what they are if
    all units keep the same share, those of the shared variable a share of their own.

    Raises:
        ValueError: no grid comes of it.
    """
    program, bank = operator.program, space.bank
    products = Products(operator.variables, bank).to(bank.size.device)
    apart = torch.zeros_like(bank.hardened)
    if program.shared is not None:
        owners = [owner for _, dims, _ in operator.variables[program.shared] for _, owner in dims if owner is not None]
        elements = torch.as_tensor(np.unique(np.concatenate([owner.ravel() for owner in owners])), device=apart.device)
        apart[bank.segment[elements[elements >= 0]]] = True
    place = torch.arange(len(bank.segment), device=apart.device) - bank.spread(bank.start)
    shares = np.geomspace(1 / 64, 1, most if program.shared is not None else 2 * most).tolist()
    found = {}
    for share, own in itertools.product(shares, shares if program.shared is not None else shares[:1]):
        wanted = torch.where(apart, own * bank.size, share * bank.size).round().long()
        kept = torch.maximum(wanted, bank.min_keep)
        sizes = products(kept.double(), (place < bank.spread(kept)).double())
        size = tuple(max(1, round(n)) for n in sizes.tolist())
        found[tuple(program.coordinates(size))] = size
    if len(found) != math.prod(len(set(axis)) for axis in zip(*found)):
        raise ValueError('counts that depend on each other in a way that no table of two axes has')
    return list(found.values())
