"""Numbers in a slim forward that depend on a size, as the scale of attention does: undone in weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..tracing import Call, IntArray
from .compare import Mismatch
from .plan import Plan, Remedy, Rows, Scale, kept_of
from .sizes import Owners, Role, Sizes, same_owners

EXPONENTS = (-0.25, 0.25, -0.5, 0.5, -1.0, 1.0)


def scale_remedies(plan: Plan, sizes: Sizes, problem: Mismatch, keep: IntArray) -> Iterator[Remedy]:
    """For every size that explains the number that an operator gets: its effect undone, in all modules of the class."""
    call = sizes.call(*problem.place)
    have, want = problem.scalars or (), call.scalars
    if len(want) != 1 or len(have) != 1 or not want[0] or have[0] / want[0] <= 0:
        return
    ratio = have[0] / want[0]
    sign = -1.0 if call.name in ('aten::div', 'aten::div_') else 1.0
    own = sizes.own(problem.mode, call.module)
    behind = own.index(problem.index)
    tried: list[Owners] = []
    # The size may have been seen earlier: scores are scaled after the product that contracted it.
    for back in range(behind + 1):
        for seen in sizes.at(sizes.call(problem.mode, own[behind - back])):
            share = kept_of(seen.owners, seen.size, keep) / seen.size
            if share == 1 or any(same_owners(o, seen.owners) for o in tried):
                continue
            tried.append(seen.owners)
            exponent = next((e for e in EXPONENTS if abs(share**e - ratio) < 1e-6 * ratio), 0)
            if not exponent:
                continue
            scales = _in_all_twins(plan, sizes, problem, seen.role, back, exponent, sign * exponent)
            if scales:
                # A number that was explained by another size, whose share was the same by chance, is explained anew.
                calls = {s.call for s in scales}
                yield Remedy(scales=scales, drop_scales=[s for s in plan.scales if s.call in calls])


def _in_all_twins(
    plan: Plan, sizes: Sizes, problem: Mismatch, role: Role, back: int, exponent: float, effect: float
) -> list[Scale]:
    """The scale of a problem, which depends on the size that ``role`` had ``back`` calls before, in every twin."""
    mode = problem.mode
    scales = []
    for twin, at in sizes.twins(problem, sizes.call(*problem.place).module):
        there, own = sizes.call(mode, at), sizes.own(mode, twin)
        place = own.index(at)
        before = sizes.call(mode, own[place - back])
        seen = next((s for s in sizes.at(before) if s.role == role), None)
        k = next((k for k, entries in enumerate(there.input_axes) if entries), None)
        if seen is None or k is None:
            continue
        rows = _rows(plan, there.input_axes[k], there.makers[k] or frozenset())
        if rows:
            keys = _multiplied(plan, [sizes.call(mode, i) for i in own[place:]], rows) or rows
            scales.append(Scale((mode, at), keys, seen.owners, seen.size, exponent, effect, rows))
    return scales


def _multiplied(plan: Plan, calls: Sequence[Call], rows: Rows) -> Rows:
    """Where the right operand of the next product with ``rows`` on a side is made: keys, whose scale is the score's.

    Queries may go elsewhere too, into a relative position bias for one, that no scale applies to.
    """
    for call in calls:
        if call.name == 'aten::bmm' and len(call.makers) == 2:
            left, right = (
                _rows(plan, axes, makers) if axes and makers else {}
                for axes, makers in zip(call.input_axes, call.makers)
            )
            if any(side and _same_rows(side, rows) for side in (left, right)):
                return right
    return {}


def _same_rows(a: Rows, b: Rows) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def _rows(plan: Plan, entries: Sequence[tuple[tuple[int, ...], IntArray]], makers: frozenset[str]) -> Rows:
    """Positions of parameters that carry the elements of a tensor: of its makers, or of what was factored into it."""
    elements, params = plan.trace.elements, plan.trace.params
    if not entries:
        return {}
    raw = elements.wholes(np.concatenate([ids.ravel() for _, ids in entries]))
    # Exact ids tell queries from keys and values in one weight; a bias has the rows that it was added to.
    hits = np.zeros(len(elements), dtype=bool)
    hits[raw] = True
    raw = np.concatenate([raw, *(bias[hits[weight]] for weight, bias in plan.trace.biases)])
    hits[raw] = True
    rows: dict[tuple[str, int], IntArray] = {}
    for name in sorted(makers, key=lambda n: -len(plan.shapes[n])):
        for d, line in enumerate(params[name]):
            hit = hits[line]
            if hit.any():
                rows[name, d] = np.flatnonzero(hit)
                break
    if rows:
        return rows
    hits[elements.find(raw)] = True
    for names in (makers, params):
        for name in names:
            for d, line in enumerate(params[name]):
                hit = hits[elements.find(line)]
                if hit.any() and (names is makers or (name, d) in plan.trace.producers or len(plan.shapes[name]) == 1):
                    rows[name, d] = np.flatnonzero(hit)
                    break
        if rows:
            return rows
    return {}
