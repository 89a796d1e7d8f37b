"""Elements: positions of parameter dimensions that live and die together, as a vectorised union-find.

An element may be *composed* of others and then lives only if all of them do: the channel of a projection is a pair of a
head and a position inside heads. Compositions are remembered while tracing and resolved afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

IntArray = np.ndarray


class Elements:
    """Disjoint sets over integer ids, with NumPy arrays in and out.

    Freezing is remembered as an event and resolved when asked, so that the reason of every frozen class survives
    later unions.
    """

    def __init__(self) -> None:
        self._parent = np.zeros(0, dtype=np.int64)
        self._size = 0
        self.freezes: list[tuple[IntArray, str]] = []
        self.lines: list[IntArray] = []  # factors that were made together, one dimension each
        self.boxes: list[tuple[IntArray, int | None]] = []  # ids that a reshape needs as a full box
        self.origins: list[tuple[IntArray, IntArray]] = []  # what was factored, and its factors, as they were made
        self._boxed: dict[tuple[tuple[int, ...], bytes, int | None], bytes] = {}  # box -> its parts when last looked at
        self._known_origins = -1
        self._wholes = np.zeros(0, dtype=np.int64)
        self._factors = np.zeros((0, 1), dtype=np.int64)
        self._compositions: list[tuple[IntArray, IntArray]] = []  # (n,) wholes and (n, k) parts, -1 for none
        self._parts = np.zeros((0, 1), dtype=np.int64)

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

    def union(self, a: IntArray, b: IntArray) -> None:
        """Merge ``a[i]`` with ``b[i]`` for every i (broadcast)."""
        a, b = np.broadcast_arrays(a, b)
        a, b = a.reshape(-1), b.reshape(-1)
        while True:
            ra, rb = self.find(a), self.find(b)
            differ = ra != rb
            if not differ.any():
                return
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
        return bool(self._frozen_mask()[self.find(np.array([id]))[0]])

    def _frozen_mask(self) -> np.ndarray:
        mask = np.zeros(self._size, dtype=bool)
        if self.freezes:
            mask[self.find(np.concatenate([ids for ids, _ in self.freezes]))] = True
        return mask

    # -- composition
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
            padded = [np.pad(p, ((0, 0), (0, width - p.shape[1])), constant_values=-1) for _, p in self.origins]
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
        """Bring compositions, freezes and boxes into agreement; afterwards :meth:`parts` may be asked.

        Whatever is frozen drops out of a composition, a whole with one part left is that part, and two
        compositions of one class are merged part by part.
        """
        while True:
            while self._simplify():
                pass
            self._tabulate()
            if not self._box():
                break
        self._tabulate()

    def _simplify(self) -> bool:
        if not self._compositions:
            return False
        width = max(parts.shape[1] for _, parts in self._compositions)
        whole = np.concatenate([w for w, _ in self._compositions])
        parts = np.concatenate(
            [np.pad(p, ((0, 0), (0, width - p.shape[1])), constant_values=-1) for _, p in self._compositions]
        )
        changed = False
        frozen = self._frozen_mask()
        root = self.find(whole)
        live = parts >= 0
        part = np.where(live, self.find(np.maximum(parts, 0)), -1)
        # A frozen whole needs all of its parts.
        must = part[frozen[root]]
        must = must[must >= 0]
        if len(must) and not frozen[must].all():
            self.freeze(must[~frozen[must]], 'part of channels that must stay')
            frozen = self._frozen_mask()
            changed = True
        # Being composed of oneself and others is an order, not an equality: the others have to stay.
        loop = (part == root[:, None]).any(1) & live.any(1)
        others = part[loop][(part[loop] >= 0) & (part[loop] != root[loop][:, None])]
        if len(others) and not frozen[others].all():
            self.freeze(others, 'a cyclic reshape of channels')
            frozen = self._frozen_mask()
            changed = True
        part[(part >= 0) & frozen[np.maximum(part, 0)]] = -1
        for k in range(1, width):  # the same part twice counts once
            twice = (part[:, k : k + 1] == part[:, :k]).any(1) & (part[:, k] >= 0)
            part[twice, k] = -1
        count = (part >= 0).sum(1)
        gone = (count == 0) & ~frozen[root]
        if gone.any():
            self.freeze(root[gone], 'composed of channels that must stay')
            changed = True
        single = count == 1
        if single.any():
            only = part[single].max(1)
            if (self.find(only) != self.find(root[single])).any():
                changed = True
            self.union(root[single], only)
        rest = count > 1
        root, part = root[rest], part[rest]
        # One composition a class: the others are merged into the first, part by part.
        order = np.argsort(root, kind='stable')
        root, part = root[order], part[order]
        if len(root):
            first = np.concatenate([[True], root[1:] != root[:-1]])
            lead = np.maximum.accumulate(np.where(first, np.arange(len(root)), 0))
            fits = ((part >= 0) == (part[lead] >= 0)).all(1)
            if not fits.all():
                bad = np.concatenate([root[~fits], part[~fits].ravel(), part[lead][~fits].ravel()])
                self.freeze(bad[bad >= 0], 'channels that are reshaped in several ways')
                changed = True
            for k in range(part.shape[1]):
                both = fits & ~first & (part[:, k] >= 0)
                a, b = part[both, k], part[lead[both], k]
                if (self.find(a) != self.find(b)).any():
                    changed = True
                self.union(a, b)
            root, part = root[first], part[first]
        self._compositions = [(root, part)] if len(root) else []
        return changed

    def _tabulate(self) -> None:
        everything = self.find(np.arange(self._size))
        table: IntArray = everything[:, None]
        if self._compositions:
            whole, parts = self._compositions[0]
            composed = np.full(self._size, -1, dtype=np.int64)
            composed[self.find(whole)] = np.arange(len(whole))
            parts = np.where(parts >= 0, self.find(np.maximum(parts, 0)), -1)
            for _ in range(4):  # parts of parts
                nested = (parts >= 0) & (composed[np.maximum(parts, 0)] >= 0)
                if not nested.any():
                    break
                inner = np.where(nested[..., None], parts[composed[np.maximum(parts, 0)]], -1)
                flat = np.concatenate([np.where(nested, -1, parts), inner.reshape(len(parts), -1)], 1)
                flat = flat[:, (flat >= 0).any(0)]
                parts = flat
            else:
                self.freeze(whole, 'a cyclic reshape of channels')
                parts = np.full((len(whole), 1), -1, dtype=np.int64)
                parts[:, 0] = self.find(whole)
                self._compositions = []
            # In the order of their families, so that columns mean the same for all positions of a tensor.
            family = self.families()
            place = np.where(parts >= 0, family[np.maximum(parts, 0)] * self._size + parts, np.iinfo(np.int64).max)
            parts = np.take_along_axis(parts, np.argsort(place, axis=1, kind='stable'), 1)
            table = np.full((self._size, parts.shape[1]), -1, dtype=np.int64)
            table[:, 0] = everything
            inside = composed[everything] >= 0
            table[inside] = parts[composed[everything[inside]]]
        self._parts = table

    def same(self, a: IntArray, b: IntArray) -> bool:
        """Both live and die together, position by position, or can't go at all; as last resolved or made since."""
        if max(a.max(), b.max()) >= len(self._parts):
            self.resolve()
        left, right = self.parts(a), self.parts(b)
        frozen = np.append(self._frozen_mask(), True)  # the last for "none"
        return np.array_equal(left, right) or bool(frozen[left].all() and frozen[right].all())

    def composed(self, a: IntArray, b: IntArray) -> bool:
        """Something is composed of one of ``a`` and one of ``b``."""
        has = np.zeros((2, self._size + 1), dtype=bool)  # the last for "none"
        has[0, self.find(a)] = has[1, self.find(b)] = True
        with_a, with_b = (functools.reduce(np.logical_or, [side[column] for column in self._parts.T]) for side in has)
        return bool((with_a & with_b).any())

    def families(self) -> IntArray:
        """(N,) for every id the smallest one that was factored in one dimension with it, or tied to such; else 0."""
        family = np.zeros(self._size, dtype=np.int64)
        if not self.lines:
            return family
        sets = Elements()
        sets.new(self._size)
        roots = self.find(np.concatenate(self.lines))
        first = np.repeat(roots[np.cumsum([0, *map(len, self.lines[:-1])])], [len(line) for line in self.lines])
        sets.union(roots, first)
        family[roots] = sets.find(roots) + 1
        return family[self.find(np.arange(self._size))]

    def parts(self, ids: IntArray) -> IntArray:
        """(..., K) representatives of the simple elements that each id is composed of, -1 for none."""
        return self._parts[ids]

    def _box(self) -> bool:
        """Tie what a reshape to several dimensions needs as a full box. True if anything was tied."""
        before = len(self.freezes)
        changed = False
        # The same reshape is met in eval and in training mode.
        distinct = {(ids.shape, ids.tobytes(), fixed): (ids, fixed) for ids, fixed in self.boxes}
        self.boxes = list(distinct.values())
        for key, (ids, fixed) in distinct.items():
            part = self.parts(ids)
            if self._boxed.get(key) == (seen := part.tobytes()):
                continue
            self._boxed[key] = seen
            place = np.indices(ids.shape)[..., None]
            live = part >= 0
            roots, code = np.unique(part[live], return_inverse=True)
            # (dims, roots) whether a part is found at some positions of a dimension only.
            bound = np.zeros((ids.ndim, len(roots)), dtype=bool)
            for d, size in enumerate(ids.shape):
                index = np.broadcast_to(place[d], part.shape)[live]
                pairs = np.unique(code * size + index)
                bound[d] = np.bincount(pairs // size, minlength=len(roots)) < size
            # A part that depends on one dimension alone keeps the box; along a cut all of it must stay.
            if fixed is not None:
                cut = bound[fixed] & (bound.sum(0) == 1)
                self.freeze(roots[cut], 'a cut through heads or groups')
            open_dims = set(np.flatnonzero(bound[:, bound.sum(0) > 1].any(1)).tolist())
            if not open_dims:
                continue
            keep = max(open_dims - {fixed}, key=lambda d: (ids.shape[d], d))
            for d in sorted(open_dims - {keep}):
                first = ids[tuple(slice(0, 1) if e == d else slice(None) for e in range(ids.ndim))]
                a, b = np.broadcast_arrays(ids, first)
                # The one part that differs is tied, so that queries, keys and values of one projection stay apart.
                left, right = self.parts(a).reshape(a.size, -1), self.parts(b).reshape(a.size, -1)
                shared = (left[:, :, None] == right[:, None, :]) & (left[:, :, None] >= 0)
                mine = np.where(shared.any(2), -1, left)
                other = np.where(shared.any(1), -1, right)
                odd = (mine >= 0).sum(1)
                if (odd == (other >= 0).sum(1)).all() and (odd <= 1).all():
                    a, b = mine.max(1)[odd == 1], other.max(1)[odd == 1]
                if (self.find(a) != self.find(b)).any():
                    self.union(a, b)
                    changed = True
                    self._boxed.pop(key, None)
        return changed or (len(self.freezes) != before and self._news(before))

    def _news(self, before: int) -> bool:
        known = np.zeros(self._size, dtype=bool)
        if before:
            known[self.find(np.concatenate([ids for ids, _ in self.freezes[:before]]))] = True
        new = np.concatenate([ids for ids, _ in self.freezes[before:]])
        if known[self.find(new)].all():
            del self.freezes[before:]
            return False
        return True
