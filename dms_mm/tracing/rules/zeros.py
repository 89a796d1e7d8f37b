"""Whose zeros an elementwise operator passes on, found by trying it on numbers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from ..findings import Entries
from ..ledger import Ledger, tensors_of
from .layout import Operand

GRID = (-2.5, -1.0, -0.3, 0.0, 0.3, 1.0, 2.5)
MOST_TENSORS = 4
# Random, and yet zero where their input is.
DROPOUTS = {'native_dropout', '_fused_dropout'}


@functools.cache
def zeroing(operator: str, shapes: tuple[Any, ...]) -> tuple[frozenset[int], ...]:
    """Smallest sets of tensors whose zeros make the operator's result zero, whatever the others hold.

    Args:
        operator: name in ``torch.ops.aten``.
        shapes: its arguments, a dtype in the place of each tensor.
    """
    op = getattr(torch.ops.aten, operator)
    tensors = [k for k, a in enumerate(shapes) if isinstance(a, torch.dtype)]
    if not tensors or len(tensors) > MOST_TENSORS:
        return ()
    found: list[frozenset[int]] = []
    with _disable_current_modes(), torch.random.fork_rng(devices=[]), torch.no_grad():
        if any(torch.Tag.nondeterministic_seeded in getattr(op, o).tags for o in op.overloads()):
            return (frozenset({0}),) if operator in DROPOUTS else ()
        for size in range(len(tensors) + 1):
            for chosen in itertools.combinations(range(len(tensors)), size):
                if not any(known <= set(chosen) for known in found) and _is_zero(op, shapes, tensors, chosen):
                    found.append(frozenset(chosen))
    return tuple(found)


def _is_zero(op: Any, shapes: tuple[Any, ...], tensors: Sequence[int], chosen: Sequence[int]) -> bool:
    """Zero whatever the others are; no number, as 0 / 0 is, only where one of them is zero."""
    others = [k for n, k in enumerate(tensors) if n not in chosen]
    mesh = torch.tensor(list(itertools.product(GRID, repeat=len(others))), dtype=torch.float64)
    count = len(mesh)
    args = list(shapes)
    for n, k in enumerate(tensors):
        values = torch.zeros(count) if n in chosen else mesh[:, others.index(k)]
        args[k] = (values > 0) if shapes[k] == torch.bool else values.to(shapes[k], copy=True)
    some = (mesh == 0).any(1)
    try:
        result = tensors_of(op(*args))[0]
    except Exception:  # an integer divided by zero, an operator that takes no such numbers
        return False
    return bool(((result == 0) | (result.isnan() & some)).all())


def zero_makers(
    ledger: Ledger, operands: Sequence[Operand], entries: Entries, sets: Sequence[frozenset[int]]
) -> frozenset[str] | None:
    """Parameters whose masks make dead positions along every entry of a result zero.

    Args:
        operands: what it is made of.
        sets: operands of which all have to be zero; any of them will do.
    """

    def carries(k: int, dims: Sequence[int]) -> bool:
        x, places = operands[k]
        mine = {places[d] for own, _ in ledger.entries(x) for d in own}
        return mine.issuperset(dims)

    def usable(dims: Sequence[int]) -> Iterator[frozenset[int]]:
        for chosen in sets:
            if all(carries(k, dims) and ledger.makers(operands[k][0]) is not None for k in chosen):
                yield chosen

    if not entries:
        return None
    # One set for all is the fewest masks; or each dimension is made zero by what carries it.
    every = next(usable([d for dims, _ in entries for d in dims]), None)
    chosen = [every] if every is not None else [next(usable(dims), None) for dims, _ in entries]
    if any(one is None for one in chosen):
        return None
    return frozenset(name for one in chosen for k in one or () for name in ledger.makers(operands[k][0]) or ())
