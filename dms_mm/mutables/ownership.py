"""Which element of which unit every traced position belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..tracing import Elements, IntArray, Trace
from .units import ChannelUnit, DepthUnit, ExpertUnit, MutableUnit


@dataclass(frozen=True)
class Ownership:
    """From traced ids to the elements of the bank, whose N elements are those of all units in their order.

    Attributes:
        elements: the trace's elements, resolved.
        lookup: (ids + 1,) the bank's element of each simple element, -1 for none; the last entry stands for "none".
        units: (N,) the unit of each element.
        roots: (N,) an id of each element of a width, -1 for blocks.
        blocks: removable blocks and their elements.
        experts: modules that go with the elements of a width, for how many positions each of them runs data decide.
        named: blocks and experts under all of their names.
    """

    elements: Elements
    lookup: IntArray
    units: IntArray
    roots: IntArray
    blocks: tuple[tuple[str, int], ...]
    experts: tuple[tuple[str, int], ...]
    named: tuple[tuple[str, int], ...]

    def owner(self, ids: IntArray) -> IntArray:
        """(..., K) elements of the bank of each id, -1 for none; a position lives if all of them do."""
        owner: IntArray = self.lookup[self.elements.parts(ids)]
        return owner

    def lives(self, ids: IntArray, keep: IntArray) -> IntArray:
        """Bool of the shape of ``ids``: every element of it is in ``keep`` (N,)."""
        return all_live(self.owner(ids), keep)

    def blocks_of(self, path: str) -> list[int]:
        """Elements of the removable blocks and experts that a module or parameter lies in."""
        return list(dict.fromkeys(e for block, e in self.named if path == block or path.startswith(block + '.')))


def all_live(owner: IntArray, keep: IntArray) -> IntArray:
    """(...) bool: every element of ``owner`` (..., K) is in ``keep`` (N,); -1 stands for none."""
    alive = np.append(keep, True)
    # Column by column: a reduction over a short last axis takes ten times as long.
    result: IntArray = alive[owner[..., 0]] if owner.shape[-1] else np.ones(owner.shape[:-1], dtype=bool)
    for k in range(1, owner.shape[-1]):
        result &= alive[owner[..., k]]
    return result


def make_ownership(trace: Trace, units: Sequence[MutableUnit]) -> Ownership:
    """The ownership of units whose places in the bank are set."""
    elements = trace.elements
    lookup = np.full(len(elements) + 1, -1, dtype=np.int64)
    owner = np.repeat(np.arange(len(units)), [u.size for u in units])
    roots = np.full(len(owner), -1, dtype=np.int64)
    blocks: list[tuple[str, int]] = []
    experts: list[tuple[str, int]] = []
    for unit in units:
        if isinstance(unit, ChannelUnit):
            roots[unit.start : unit.start + unit.size] = [r[0] for r in unit.roots]
            for k, ids in enumerate(unit.roots):
                lookup[elements.find(ids)] = unit.start + k
            if isinstance(unit, ExpertUnit):
                experts += [(path, unit.start + k) for k, paths in enumerate(unit.blocks) for path in paths]
        elif isinstance(unit, DepthUnit):
            blocks += [(path, unit.start + k) for k, path in enumerate(unit.blocks)]
    for path, element in blocks:
        # What a block concatenates lives only with the block.
        if path in trace.gates and not elements.is_frozen(trace.gates[path].id):
            lookup[elements.find(np.array([trace.gates[path].id]))] = element
    named = [(name, element) for path, element in [*blocks, *experts] for name in trace.names.get(path, (path,))]
    return Ownership(elements, lookup, owner, roots, tuple(blocks), tuple(experts), tuple(named))
