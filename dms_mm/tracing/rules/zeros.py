"""Whose zeros an elementwise operator passes on, found by trying it on numbers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from ..findings import Entries
from ..flow import flow_of
from ..ledger import Ledger, tensors_of
from ..poles import is_barred
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


@functools.cache
def poles(operator: str, shapes: tuple[Any, ...]) -> frozenset[int]:
    """Tensors whose zeros alone leave an operator's result without a finite value; arguments as above."""
    op = getattr(torch.ops.aten, operator)
    tensors = [k for k, a in enumerate(shapes) if isinstance(a, torch.dtype)]
    if len(tensors) > MOST_TENSORS or not all(shapes[k].is_floating_point for k in tensors):
        return frozenset()
    found = set()
    with _disable_current_modes(), torch.random.fork_rng(devices=[]), torch.no_grad():
        for n, chosen in enumerate(tensors):
            args = list(shapes)
            for k in tensors:
                args[k] = torch.full((1,), float(k != chosen), dtype=torch.float64)
            try:
                result = tensors_of(op(*args))[0]
            except Exception:  # an operator that takes no such numbers
                continue
            if result.is_floating_point() and not result.isfinite().all():
                found.add(n)
    return frozenset(found)


def zero_makers(
    ledger: Ledger, operands: Sequence[Operand], entries: Entries, sets: Sequence[frozenset[int]]
) -> frozenset[str] | None:
    """Parameters whose masks make dead positions along every entry of a result zero.

    Args:
        operands: what it is made of.
        sets: operands of which all have to be zero; any of them will do.
    """
    # One set for all is the fewest masks; or each dimension is made zero by what carries it.
    if not entries:
        return None
    every = next(_usable(ledger, operands, entries, sets), None)
    return _apart(ledger, operands, entries, sets) if every is None else every


def _apart(
    ledger: Ledger, operands: Sequence[Operand], entries: Entries, sets: Sequence[frozenset[int]]
) -> frozenset[str] | None:
    found = [next(_usable(ledger, operands, [entry], sets), None) for entry in entries]
    if any(makers is None for makers in found):
        return None
    names = frozenset(name for makers in found for name in makers or ())
    # Along each dimension one of them may take the masks that another is barred from.
    ledger.trace.excused.add(names)
    return names


def spare_makers(
    ledger: Ledger, operands: Sequence[Operand], entries: Entries, sets: Sequence[frozenset[int]]
) -> frozenset[str] | None:
    """Others that could do the same, should those of :func:`zero_makers` be barred from it."""
    if len(entries) < 2 or any(flow_of(x).data for x, _ in operands):
        return None
    # What carries the fewest dimensions, as a gain does.
    fewest = sorted(sets, key=lambda chosen: sum(len(ledger.entries(operands[k][0])) for k in chosen))
    return _apart(ledger, operands, entries, fewest)


def _usable(
    ledger: Ledger, operands: Sequence[Operand], entries: Entries, sets: Sequence[frozenset[int]]
) -> Iterator[frozenset[str]]:
    """Makers of the sets that make a result zero along these entries."""

    def makers_of(k: int) -> frozenset[str] | None:
        x, places = operands[k]
        mine = {places[d] for own, _ in ledger.entries(x) for d in own}
        if not mine.issuperset(d for dims, _ in entries for d in dims):
            return None
        known = (makers for makers in (ledger.makers(x), ledger.spare(x)) if makers is not None)
        return next((m for m in known if not any(is_barred(ledger.trace, m, ids) for _, ids in entries)), None)

    for chosen in sets:
        makers = [makers_of(k) for k in chosen]
        if all(m is not None for m in makers):
            if len(makers) > 1:
                ledger.trace.together.add(frozenset(m for m in makers if m is not None))
            yield frozenset(name for m in makers for name in m or ())
