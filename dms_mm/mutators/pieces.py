"""Pieces of a tensor that go different ways: groups are parted where one of them could be left without channels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..tracing import IntArray, Trace

Groups = list[tuple[tuple[int, ...], list[int]]]  # what marks a group, and its elements


def parted(trace: Trace, groups: Groups) -> Groups:
    """Groups of which every parameter, and every operator that was promised zeros, keeps at least one position.

    A group is parted into what such a line holds and the rest: each keeps one of its elements at least. Lines that hold
    a whole group, or a position that stays, need nothing.
    """
    groups = [(key, list(roots)) for key, roots in groups]
    place = np.full(len(trace.elements) + 1, -1, dtype=np.int64)  # the last for "none"
    for k, (_, roots) in enumerate(groups):
        place[roots] = k
    for inside in _lines(trace):
        group = place[inside]
        if (group < 0).any():
            continue
        held = np.bincount(group, minlength=len(groups))
        touched = np.flatnonzero(held)
        if any(held[k] == len(groups[k][1]) for k in touched):
            continue
        most = int(touched[held[touched].argmax()])
        key, roots = groups[most]
        chosen = set(inside.tolist())
        first = roots[0] in chosen
        groups[most] = key, [r for r in roots if (r in chosen) == first]
        groups.append((key, [r for r in roots if (r in chosen) != first]))
        place[groups[-1][1]] = len(groups) - 1
    return groups


def _lines(trace: Trace) -> Iterable[IntArray]:
    """Simple elements of every line of positions of which one has to live, those that are made of one element each."""
    elements = trace.elements
    lines = [ids for dims in trace.params.values() for ids in dims] + [ids for _, ids in trace.requests]
    seen = set()
    for ids in lines:
        parts = elements.parts(ids.reshape(-1))
        count = (parts >= 0).sum(1)
        if len(parts) == 0 or (count != 1).any():
            continue
        inside = np.unique(parts.max(1))
        if (mark := inside.tobytes()) not in seen:
            seen.add(mark)
            yield inside
