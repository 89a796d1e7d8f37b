"""Elements: positions of parameter dimensions that live and die together.

An element may be *composed* of others and then lives only if all of them do: the channel of a projection is a pair of a
head and a position inside heads. Compositions are remembered while tracing and resolved afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from .boxes import Boxes
from .compositions import Compositions, families_of, pad_parts, simplify, tabulate
from .sets import DisjointSets, IntArray

__all__ = ['Elements', 'IntArray']


class Elements(DisjointSets):
    """Disjoint sets of ids that know which of them are composed of others.

    Attributes:
        lines: factors that were made together, one dimension each.
        boxes: ids that a reshape needs as a full box.
        origins: what was factored, and its factors, as they were made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[IntArray] = []
        self.boxes = Boxes()
        self.origins: Compositions = []
        self._known_origins = -1
        self._wholes = np.zeros(0, dtype=np.int64)
        self._factors = np.zeros((0, 1), dtype=np.int64)
        self._compositions: Compositions = []
        self._parts = np.zeros((0, 1), dtype=np.int64)

    def compose(self, whole: IntArray, parts: Sequence[IntArray]) -> None:
        """``whole[i]`` lives if and only if every ``parts[k][i]`` does."""
        if len(parts) == 1:
            self.union(whole, parts[0])
        else:
            self._compositions.append((np.asarray(whole).reshape(-1), np.stack([p.reshape(-1) for p in parts], 1)))

    def factor(self, ids: IntArray) -> list[IntArray]:
        """Fresh ids for every dimension of ``ids``; each position is composed of one of each.

        Positions of a dimension with the same ids throughout (copies over a batch) share their factor.
        """
        fresh = []
        for d, size in enumerate(ids.shape):
            rows = np.moveaxis(ids, d, 0).reshape(size, -1)
            _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
            line = self.new(len(first))
            self.lines.append(line)
            place = np.argsort(np.argsort(first))  # in the order of appearance
            fresh.append(line[place[inverse.ravel()]])
        grid = np.meshgrid(*fresh, indexing='ij')
        self.origins.append((ids.reshape(-1), np.stack([g.reshape(-1) for g in grid], 1)))
        self.compose(ids, grid)
        return fresh

    def wholes(self, ids: IntArray) -> IntArray:
        """``ids`` and what was factored into any of them."""
        if self._known_origins != len(self.origins):
            self._known_origins = len(self.origins)
            width = max((parts.shape[1] for _, parts in self.origins), default=1)
            padded = [pad_parts(parts, width) for _, parts in self.origins]
            self._wholes = np.concatenate([np.zeros(0, dtype=np.int64), *(w for w, _ in self.origins)])
            self._factors = np.concatenate([np.zeros((0, width), dtype=np.int64), *padded])
        hit = np.zeros(self._size + 1, dtype=bool)  # the last for "none"
        hit[ids] = True
        # Column by column: a reduction over a short last axis takes ten times as long.
        touched = np.zeros(len(self._wholes), dtype=bool)
        for column in self._factors.T:
            touched |= hit[column]
        return np.unique(np.concatenate([np.ravel(ids), self._wholes[touched]]))

    def fuse(self, entries: Sequence[IntArray]) -> IntArray:
        """One id for each position of a compound dimension."""
        if len(entries) == 1:
            return entries[0]
        # Slowly varying parts first, so that the same parts get the same roles everywhere.
        ordered = sorted(entries, key=lambda ids: int((np.diff(ids) != 0).sum()))
        whole = self.new(len(entries[0]))
        self.compose(whole, ordered)
        return whole

    def resolve(self) -> None:
        """Bring compositions, freezes and boxes into agreement; afterwards :meth:`parts` may be asked."""
        while True:
            changed = True
            while changed:
                self._compositions, changed = simplify(self, self._compositions)
            self._tabulate()
            if not self.boxes.tie(self, self._parts):
                break
        self._tabulate()

    def _tabulate(self) -> None:
        self._parts, self._compositions = tabulate(self, self._compositions, self.lines)

    def parts(self, ids: IntArray) -> IntArray:
        """(..., K) representatives of the simple elements that each id is composed of, -1 for none."""
        return self._parts[ids]

    def families(self) -> IntArray:
        """(N,) for every id the smallest one that was factored in one dimension with it, or tied to such; else 0."""
        return families_of(self, self.lines)

    def same(self, a: IntArray, b: IntArray) -> bool:
        """Both live and die together, position by position, or can't go at all; as last resolved or made since."""
        if max(a.max(), b.max()) >= len(self._parts):
            self.resolve()
        left, right = self.parts(a), self.parts(b)
        frozen = np.append(self.frozen_mask(), True)  # the last for "none"
        return np.array_equal(left, right) or bool(frozen[left].all() and frozen[right].all())

    def composed(self, a: IntArray, b: IntArray) -> bool:
        """Something is composed of one of ``a`` and one of ``b``."""
        has = np.zeros((2, self._size + 1), dtype=bool)  # the last for "none"
        has[0, self.find(a)] = has[1, self.find(b)] = True
        with_a, with_b = (functools.reduce(np.logical_or, [side[column] for column in self._parts.T]) for side in has)
        return bool((with_a & with_b).any())
