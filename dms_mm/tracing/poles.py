"""What must never become zero: a mask that makes ``norm(v)`` zero leaves ``v / norm(v)`` without a value.

A parameter's dimension is *barred* if masks along it would do so to something that is divided by; then another one has
to take them, as the gain of a weight that is normalised by hand does, or the elements stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .elements import IntArray
from .findings import Entries, ParamDim, Trace
from .flow import flow_of

DIVIDED = 'a division by what masks make zero'


def places_of(trace: Trace, names: Iterable[str], ids: IntArray) -> list[ParamDim]:
    """Dimensions of these parameters that carry some of these elements."""
    roots = trace.elements.find(np.unique(ids))
    return [
        (name, d)
        for name in names
        for d, line in enumerate(trace.params.get(name, ()))
        if len(line) > 1 and np.isin(trace.elements.find(line), roots).any()
    ]


def bar(trace: Trace, x: Any, entries: Entries, makers: frozenset[str]) -> Entries:
    """``x`` must not become zero; of its ``entries`` those whose elements have to stay, as masks of ``makers`` along
    them are asked for already."""
    flow = flow_of(x)
    if flow.low > 0 or flow.high < 0:
        return []
    late = []
    for dims, ids in entries:
        places = places_of(trace, makers, ids)
        if makers and not places:
            late.append((dims, ids))  # a factor of a dimension, as heads are: masks of it are of the dimension's
            continue
        trace.barred.update(dict.fromkeys(places))
        roots = trace.elements.find(np.unique(ids))
        asked = [wanted for names, wanted in trace.requests if _apart(trace, names).intersection(n for n, _ in places)]
        asked += [trace.params[name][d] for name, d in places if (name, d) in trace.consumers]
        if any(np.isin(trace.elements.find(wanted), roots).any() for wanted in asked):
            late.append((dims, ids))
    return late


def is_barred(trace: Trace, makers: frozenset[str], ids: IntArray) -> bool:
    """Masks of ``makers`` along these elements would make something zero that is divided by."""
    if not any(name in makers for name, _ in trace.barred):
        return False
    return any(place in trace.barred for place in places_of(trace, _apart(trace, makers), ids))


def _apart(trace: Trace, makers: frozenset[str]) -> frozenset[str]:
    """Those of some makers for which no other one takes masks that they are barred from.

    Where several have to be zero together, none takes another's masks.
    """

    def excuses(names: frozenset[str]) -> bool:
        return names <= makers and not any(
            names <= frozenset().union(*sets) and not any(names <= one for one in sets) for sets in trace.together
        )

    return makers.difference(*filter(excuses, trace.excused))
