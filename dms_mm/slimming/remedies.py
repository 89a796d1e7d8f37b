"""What may bring a slim forward in line with the trace, in the order in which it is tried."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ..tracing import IntArray
from .compare import Mismatch
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
    later: list[Remedy] = []
    single: list[Remedy] = []
    # An attribute of the parent may hold it; further up numbers agree by chance.
    for path in dict.fromkeys((call.module, call.module.rpartition('.')[0])):
        for rewrite in rewrites(plan, sizes, problem, path, ahead):
            if rewrite.mends:
                single.append(Remedy(mends=rewrite.mends))
                yield single[-1]
            elif rewrite.instead:
                yield Remedy(mends=rewrite.instead, drop=rewrite.drop)
                ties = [tie for pair in rewrite.others for tie in tie_of(plan, *pair)]
                later += [Remedy(ties=ties)] if ties else []
        yield from piece_remedies(sizes, call, path)
    # A reshape to heads and head dims may need both.
    for a, b in itertools.combinations(single[:8], 2):
        if _attributes(a).isdisjoint(_attributes(b)):
            yield Remedy(mends=[*a.mends, *b.mends])
    yield from later
    ties = width_ties(plan, sizes, problem, ahead)
    if ties:
        yield Remedy(ties=ties)


def _attributes(remedy: Remedy) -> set[tuple[str, str, int | None]]:
    return {_key(mend) for mend in remedy.mends}


def _key(mend: Mend) -> tuple[str, str, int | None]:
    return mend.module, mend.attribute, mend.index
