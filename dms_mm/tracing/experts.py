"""Modules of a list of which a router chooses some: each goes with its position, and all of them shrink alike."""

from __future__ import annotations

import numpy as np
from torch import nn

from .elements import IntArray
from .findings import Trace

UNLIKE = 'modules that are picked by number, and are no list of like ones'


def tie_experts(model: nn.Module, trace: Trace) -> None:
    """Find the lists, and tie the widths of their modules; positions whose numbers pick something else stay.

    Which of them runs for how many positions the data decide: of one width, what they compute together does not depend
    on it. One that the forward did not call is like those that it did.
    """
    for path, line in trace.picked.items():
        parent = path.rpartition('.')[0]
        if parent not in trace.experts and not _tie_list(model, trace, parent, line):
            trace.elements.freeze(line, UNLIKE)
    known = [trace.elements.find(line) for line in (*trace.experts.values(), *trace.matched)]
    for line in trace.numbered:
        if not known or not np.isin(trace.elements.find(line), np.concatenate(known)).all():
            trace.elements.freeze(line, UNLIKE)


def _tie_list(model: nn.Module, trace: Trace, parent: str, line: IntArray) -> bool:
    experts = model.get_submodule(parent)
    called = [path for path in trace.picked if path.rpartition('.')[0] == parent]
    if type(experts) is not nn.ModuleList or len(experts) != len(line):
        return False
    names = {called[0] + '.' + name for name, _ in experts[int(called[0].rpartition('.')[2])].named_parameters()}
    twins = [{name: f'{parent}.{k}{name[len(called[0]) :]}' for name in names} for k in range(len(line))]
    tensors = dict(model.named_parameters())
    for twin in twins:
        if any(b not in trace.params or tensors[a].shape != tensors[b].shape for a, b in twin.items()):
            return False
    trace.experts[parent] = line
    for twin in twins:
        _tie(trace, twin)
    return True


def _tie(trace: Trace, twin: dict[str, str]) -> None:
    """What is known of parameters holds of their twins."""
    for a, b in twin.items():
        for mine, other in zip(trace.params[a], trace.params[b]):
            trace.elements.union(mine, other)
        for places in (trace.consumers, trace.producers):
            places.update({(b, dim): None for name, dim in list(places) if name == a})
    trace.requests += [
        (frozenset(twin.get(name, name) for name in makers), ids)
        for makers, ids in trace.requests
        if not makers.isdisjoint(twin) and any(a != b for a, b in twin.items())
    ]
    trace.used.update(twin.values())
