"""What may bring a slim forward in line with the trace, in the order in which it is tried."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ..tracing import Call, IntArray
from .compare import Mismatch
from .cuts import AHEAD
from .mends import piece_remedies, rewrites
from .plan import Mend, Plan, Remedy
from .scales import scale_remedies
from .sizes import Sizes
from .ties import tie_of, width_ties


def remedies(plan: Plan, sizes: Sizes, problem: Mismatch, keep: IntArray) -> Iterator[Remedy]:
    """What to try where a slim forward departs: numbers undone in weights, attributes mended, or units tied."""
    if problem.argument:
        yield from scale_remedies(plan, sizes, problem, keep)
    call = sizes.call(*problem.place)
    # An assert may guard anything that follows; a reshape fails before the copy that it would make.
    ahead = 40 if 'AssertionError' in problem.message else 2 * int(problem.failed)
    if is_cut(call, problem):
        ahead = AHEAD
    later: list[Remedy] = []
    single: list[Remedy] = []
    # An attribute of the parent may hold it, or of what raised an error; further up numbers agree by chance.
    raised = [problem.raised] if problem.raised is not None else []
    for path in dict.fromkeys((call.module, call.module.rpartition('.')[0], *raised)):
        for rewrite in rewrites(plan, sizes, problem, path, ahead):
            if rewrite.mends:
                single.append(Remedy(mends=rewrite.mends))
                yield single[-1]
            if rewrite.instead:
                # Twins that take another way may not have been mended so far.
                yield Remedy(mends=[*rewrite.mends, *rewrite.instead], drop=rewrite.drop)
                ties = [tie for pair in rewrite.others for tie in tie_of(plan, *pair)]
                later += [Remedy(ties=ties)] if ties else []
        yield from piece_remedies(sizes, call, path)
    # A reshape to heads and head dims may need both.
    for a, b in itertools.combinations(single[:8], 2):
        if places(a).isdisjoint(places(b)):
            yield Remedy(mends=[*a.mends, *b.mends])
    # A module may read a size that a child of it stores.
    for path in dict.fromkeys(child for parent in (call.module, *raised) for child in _children(sizes, parent)):
        for rewrite in rewrites(plan, sizes, problem, path, ahead):
            if rewrite.mends:
                yield Remedy(mends=rewrite.mends)
    yield from later
    ties = width_ties(plan, sizes, problem, ahead)
    if ties:
        yield Remedy(ties=ties)


def is_cut(call: Call, problem: Mismatch) -> bool:
    """Whether the problem is a piece of another size than predicted."""
    return call.name == 'aten::slice' and not problem.failed


def width_mends(plan: Plan, sizes: Sizes, problem: Mismatch) -> Iterator[Plan]:
    """Plans in which an attribute of the module is a size that the operator sees, one for each that may be."""
    for rewrite in rewrites(plan, sizes, problem, sizes.call(*problem.place).module, 0):
        if rewrite.mends:
            yield plan.mended(Remedy(mends=rewrite.mends))


def _children(sizes: Sizes, path: str) -> list[str]:
    """Children of a module that store sizes of their own; layers of torch with parameters follow these."""
    children = sizes.model.get_submodule(path).named_children()
    return [
        f'{path}.{name}' if path else name
        for name, child in children
        if not (type(child).__module__.startswith('torch.') and child._parameters)
    ]


def places(remedy: Remedy) -> set[tuple[str, str, int | None]]:
    """Modules, their attributes and the indices in them that a remedy mends."""
    return {_key(mend) for mend in remedy.mends}


def is_single(remedy: Remedy) -> bool:
    """It mends one attribute, in a module and its twins."""
    return len({(mend.attribute, mend.index) for mend in remedy.mends}) == 1


def _key(mend: Mend) -> tuple[str, str, int | None]:
    return mend.module, mend.attribute, mend.index
