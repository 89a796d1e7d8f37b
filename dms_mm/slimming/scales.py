"""Numbers in a slim forward that depend on a size, as the scale of attention does: undone in weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..tracing import Call, IntArray
from .alike import same_numbers
from .compare import Mismatch
from .plan import Plan, Remedy, Scale, kept_of
from .powers import multiplied
from .sizes import Owners, Role, Sizes, same_owners

EXPONENTS = (-0.25, 0.25, -0.5, 0.5, -1.0, 1.0, -2.0, 2.0)
Target = tuple[int, int, str]  # mode, call, argument


def scale_remedies(plan: Plan, sizes: Sizes, problem: Mismatch, keep: IntArray) -> Iterator[Remedy]:
    """For every size that explains the factor that an operator gets: its effect undone, in all modules of the class."""
    call = sizes.call(*problem.place)
    factor = multiplied(call, problem.argument)
    ratio = ratio_of(problem.number, call.numbers.get(problem.argument))
    if factor is None or ratio is None:
        return
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
            scales = _in_all_twins(plan, sizes, problem, seen.role, back, exponent) if exponent else []
            if scales:
                # A number that was explained by another size, whose share was the same by chance, is explained anew.
                calls = {target for s in scales for target in s.calls}
                yield Remedy(scales=scales, drop_scales=[s for s in plan.scales if calls & s.calls])


def ratio_of(have: np.ndarray | None, want: np.ndarray | None) -> float | None:
    """The positive factor between two numbers, or between two tensors of them throughout."""
    if have is None or want is None or have.shape != want.shape or have.size == 0 or have.dtype.kind not in 'iuf':
        return None
    if want.dtype.kind not in 'iuf' or not want.any():
        return None
    place = int(np.abs(want).argmax())
    ratio = float(have.reshape(-1)[place] / want.reshape(-1)[place])
    return ratio if 0 < ratio < np.inf and same_numbers(np.asarray(have, float), want * ratio) else None


def _in_all_twins(plan: Plan, sizes: Sizes, problem: Mismatch, role: Role, back: int, exponent: float) -> list[Scale]:
    """The scale of a problem, which depends on the size that ``role`` had ``back`` calls before, in every twin.

    None if it can't be undone at the problem itself.
    """
    mode = problem.mode
    scales: list[Scale] = []
    known = {target for s in plan.scales for target in s.calls}
    for twin, at in sizes.twins(problem, sizes.call(*problem.place).module):
        target = mode, at, problem.argument
        if any(target in s.calls for s in scales):
            continue
        own = sizes.own(mode, twin)
        place = own.index(at)
        before = sizes.call(mode, own[place - back]) if place >= back else None
        seen = next((s for s in sizes.at(before) if s.role == role), None) if before is not None else None
        scale = _undone(sizes, target, seen.owners, seen.size, exponent, known) if seen is not None else None
        if scale is not None:
            scales.append(scale)
        elif at == problem.index:
            return []
    return scales


def _undone(
    sizes: Sizes, target: Target, owners: Owners, size: int, exponent: float, known: set[Target]
) -> Scale | None:
    """What undoes a factor of one call, in both modes; together with calls like it in its module if need be."""
    mode, index, argument = target
    call = sizes.call(mode, index)
    factor = multiplied(call, argument)
    if factor is None:
        return None
    everywhere = _in_other_modes(sizes, target)
    alike = {
        (m, i, argument)
        for m, k, _ in everywhere
        for i in sizes.own(m, call.module)
        if _alike(sizes.call(m, i), sizes.call(m, k), argument) and ((m, i, argument) not in known or i == k)
    }
    for rows, part in (
        *((rows, 1.0) for rows in sizes.factors.ways(mode, index, factor[0])),
        (sizes.factors.both(alike), 0.5),
    ):
        for targets in (everywhere, alike):
            if sizes.factors.undone(rows, targets, part):
                base = _single_base(call.numbers[argument], size, exponent)
                return Scale(frozenset(targets), argument, rows, owners, size, exponent, factor[1], base, part)
    return None


def _single_base(number: np.ndarray, size: int, exponent: float) -> float | None:
    """The ``base`` of a number that is ``(base * size) ** exponent`` in float32 and no more exact than that."""
    if number.size != 1 or not number.any():
        return None
    want = float(np.ravel(number)[0])
    base = round(abs(want) ** (1 / exponent) / size, 6)
    exact = (base * size) ** exponent if base else 0.0
    if want != float(np.float32(exact)):
        return None
    return base if number.dtype == np.float32 or want != exact else None


def _in_other_modes(sizes: Sizes, target: Target) -> set[Target]:
    """The call in every traced mode: the one with as many like it before it in its module."""
    mode, index, argument = target
    call = sizes.call(mode, index)

    def like(m: int) -> list[int]:
        return [i for i in sizes.own(m, call.module) if _alike(sizes.call(m, i), call, argument)]

    place = like(mode).index(index)
    return {(m, like(m)[place], argument) for m in range(len(sizes.trace.calls)) if place < len(like(m))}


def _alike(a: Call, b: Call, argument: str) -> bool:
    """The same operator with the same number."""
    return a.name == b.name and same_numbers(a.numbers.get(argument), b.numbers.get(argument))
