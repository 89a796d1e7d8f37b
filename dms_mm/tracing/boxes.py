"""What a reshape to several dimensions, or a cut through them, needs: living positions that form a full box."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .sets import DisjointSets, IntArray


@dataclass
class Boxes:
    """Id arrays that must stay boxes; along ``fixed``, if any, nothing may go that others depend on.

    Attributes:
        entries: ``(ids, fixed)``.
        seen: each box and its parts when it was last looked at.
    """

    entries: list[tuple[IntArray, int | None]] = field(default_factory=list)
    seen: dict[tuple[tuple[int, ...], bytes, int | None], bytes] = field(default_factory=dict)

    def append(self, box: tuple[IntArray, int | None]) -> None:
        self.entries.append(box)

    def tie(self, sets: DisjointSets, table: IntArray) -> bool:
        """Tie what would break a box; ``table`` (N, K) has the parts of every id. True if anything changed."""
        before = len(sets.freezes)
        changed = False
        # The same reshape is met in eval and in training mode.
        distinct = {(ids.shape, ids.tobytes(), fixed): (ids, fixed) for ids, fixed in self.entries}
        self.entries = list(distinct.values())
        for key, (ids, fixed) in distinct.items():
            part = table[ids]
            if self.seen.get(key) == (now := part.tobytes()):
                continue
            self.seen[key] = now
            roots, bound, scattered = _bound(part)
            # A part that depends on one dimension alone keeps the box; along a cut all of it must stay.
            if fixed is not None:
                sets.freeze(roots[bound[fixed] & (bound.sum(0) == 1)], 'a cut through heads or groups')
            open_dims = set(np.flatnonzero(bound[:, bound.sum(0) > 1].any(1)).tolist())
            if scattered.any():
                open_dims = {d for d, size in enumerate(ids.shape) if size > 1}
            if not open_dims:
                continue
            keep = max(open_dims - {fixed}, key=lambda d: (ids.shape[d], d))
            for d in sorted(open_dims - {keep}):
                if _tie_along(sets, table, ids, d):
                    changed = True
                    self.seen.pop(key, None)
        return sets.forget_known(before) or changed


def _bound(part: IntArray) -> tuple[IntArray, np.ndarray, np.ndarray]:
    """(R,) the parts in a box; (dims, R) whether each is found at some positions of a dimension only; (R,) whether
    the places where it is found are no box."""
    shape = part.shape[:-1]
    place = np.indices(shape)[..., None]
    live = part >= 0
    roots, code = np.unique(part[live], return_inverse=True)
    bound = np.zeros((len(shape), len(roots)), dtype=bool)
    box = np.ones(len(roots), dtype=np.int64)
    for d, size in enumerate(shape):
        index = np.broadcast_to(place[d], part.shape)[live]
        pairs = np.unique(code * size + index)
        lengths = np.bincount(pairs // size, minlength=len(roots))
        bound[d] = lengths < size
        box *= lengths
    return roots, bound, np.bincount(code, minlength=len(roots)) < box


def _tie_along(sets: DisjointSets, table: IntArray, ids: IntArray, dim: int) -> bool:
    """Make all positions along a dimension live and die together."""
    first = ids[tuple(slice(0, 1) if e == dim else slice(None) for e in range(ids.ndim))]
    a, b = np.broadcast_arrays(ids, first)
    # The one part that differs is tied, so that queries, keys and values of one projection stay apart.
    left, right = table[a].reshape(a.size, -1), table[b].reshape(a.size, -1)
    shared = (left[:, :, None] == right[:, None, :]) & (left[:, :, None] >= 0)
    mine = np.where(shared.any(2), -1, left)
    other = np.where(shared.any(1), -1, right)
    odd = (mine >= 0).sum(1)
    if (odd == (other >= 0).sum(1)).all() and (odd <= 1).all():
        a, b = mine.max(1)[odd == 1], other.max(1)[odd == 1]
    return sets.union(a, b)
