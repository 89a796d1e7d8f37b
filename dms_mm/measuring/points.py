"""At which counts an operator is measured."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from ..resources import Products
from ..resources.latency import Operator
from ..space import SearchSpace

# Shares of the whole, the most telling first.
MARKS = (1 / 2, 1 / 4, 3 / 4, 1 / 8, 3 / 8, 7 / 8, 5 / 8, 1 / 16, 1 / 32)


def points_of(size: int, most: int, multiple: int, step: int = 1) -> list[int]:
    """Growing counts from the fewest to ``size``, at most ``most`` of them.

    Where all that is ever kept are multiples of what the device likes, they are such. Else nearly no count is one, and
    such a one may be far from what its neighbours take: points lie on both sides of multiples, where time jumps.

    Args:
        multiple: 8, 16 or 32.
        step: only multiples of it are ever kept.
    """
    least = min(step, size)
    if math.ceil(size / step) <= most:
        return [*range(least, size, step), size]
    wide = math.lcm(multiple, step)
    sides = (0,) if step % multiple == 0 else (step, -step)
    wanted = [] if step % multiple == 0 else [(size - 1) // step * step]
    wanted += [round(share * size / wide) * wide + side for share in MARKS for side in sides]
    wanted += [round(share * size / step) * step for share in MARKS]
    found = {least, size}
    for count in wanted:
        if least < count < size and len(found) < most:
            found.add(count)
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
