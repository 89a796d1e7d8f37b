"""Disjoint sets over integer ids, some of them frozen, with NumPy arrays in and out."""

from __future__ import annotations

import numpy as np

IntArray = np.ndarray


class DisjointSets:
    """A vectorised union-find.

    Freezing is remembered as an event and resolved when asked, so that the reason of every frozen class survives
    later unions.
    """

    def __init__(self) -> None:
        self._parent = np.zeros(0, dtype=np.int64)
        self._size = 0
        self.freezes: list[tuple[IntArray, str]] = []

    def __len__(self) -> int:
        return self._size

    def new(self, count: int) -> IntArray:
        """``count`` fresh ids, shape (count,), int64."""
        start = self._size
        self._size += count
        if self._size > len(self._parent):
            grown = np.arange(max(1024, 2 * self._size), dtype=np.int64)
            grown[:start] = self._parent[:start]
            self._parent = grown
        return np.arange(start, start + count, dtype=np.int64)

    def find(self, ids: IntArray) -> IntArray:
        """The representative of each id; same shape."""
        ids = np.asarray(ids)
        root = self._parent[ids]
        while True:
            up = self._parent[root]
            if np.array_equal(up, root):
                break
            root = up
        self._parent[ids] = root
        return root

    def union(self, a: IntArray, b: IntArray) -> bool:
        """Merge ``a[i]`` with ``b[i]`` for every i (broadcast). False if they were one before."""
        a, b = np.broadcast_arrays(a, b)
        a, b = a.reshape(-1), b.reshape(-1)
        changed = False
        while True:
            ra, rb = self.find(a), self.find(b)
            differ = ra != rb
            if not differ.any():
                return changed
            changed = True
            a, b = ra[differ], rb[differ]
            # Hooking the larger root under the smallest partner keeps the forest acyclic when pairs collide.
            np.minimum.at(self._parent, np.maximum(a, b), np.minimum(a, b))

    def freeze(self, ids: IntArray, reason: str) -> None:
        """Every class that meets ``ids`` must stay whole."""
        if np.size(ids):
            self.freezes.append((np.unique(ids), reason))

    def frozen(self) -> dict[int, str]:
        """Representative -> the first reason that froze it."""
        reasons: dict[int, str] = {}
        for ids, reason in self.freezes:
            for root in np.unique(self.find(ids)).tolist():
                reasons.setdefault(root, reason)
        return reasons

    def is_frozen(self, id: int) -> bool:
        return bool(self.frozen_mask()[self.find(np.array([id]))[0]])

    def frozen_mask(self) -> np.ndarray:
        """(N,) bool, true at the representatives of frozen classes."""
        mask = np.zeros(self._size, dtype=bool)
        if self.freezes:
            mask[self.find(np.concatenate([ids for ids, _ in self.freezes]))] = True
        return mask

    def forget_known(self, before: int) -> bool:
        """Drop freezes from the ``before``-th on if they freeze nothing new. True if they do."""
        if len(self.freezes) == before:
            return False
        known = np.zeros(self._size, dtype=bool)
        if before:
            known[self.find(np.concatenate([ids for ids, _ in self.freezes[:before]]))] = True
        new = np.concatenate([ids for ids, _ in self.freezes[before:]])
        if known[self.find(new)].all():
            del self.freezes[before:]
            return False
        return True
