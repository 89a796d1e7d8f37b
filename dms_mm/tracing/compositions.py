"""Elements that are composed of others: a channel of a projection lives if its head and its place in heads do.

Compositions are pairs of wholes (n,) and parts (n, k), -1 for none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .sets import DisjointSets, IntArray

Compositions = list[tuple[IntArray, IntArray]]


def simplify(sets: DisjointSets, compositions: Compositions) -> tuple[Compositions, bool]:
    """Bring compositions and freezes into agreement by one step; what is left, in one pair, and whether that helped.

    Whatever is frozen drops out of a composition, a whole with one part left is that part, and two compositions of
    one class are merged part by part.
    """
    if not compositions:
        return compositions, False
    whole, parts = _padded(compositions)
    root = sets.find(whole)
    part = np.where(parts >= 0, sets.find(np.maximum(parts, 0)), -1)
    changed = _freeze_together(sets, root, part)
    frozen = sets.frozen_mask()
    part[(part >= 0) & frozen[np.maximum(part, 0)]] = -1
    for k in range(1, part.shape[1]):  # the same part twice counts once
        twice = (part[:, k : k + 1] == part[:, :k]).any(1) & (part[:, k] >= 0)
        part[twice, k] = -1
    count = (part >= 0).sum(1)
    gone = (count == 0) & ~frozen[root]
    if gone.any():
        sets.freeze(root[gone], 'composed of channels that must stay')
        changed = True
    single = count == 1
    if single.any():
        changed |= sets.union(root[single], part[single].max(1))
    rest = count > 1
    root, part, merged = _merge(sets, root[rest], part[rest])
    return ([(root, part)] if len(root) else []), changed | merged


def _padded(compositions: Compositions) -> tuple[IntArray, IntArray]:
    """All compositions as one pair."""
    width = max(parts.shape[1] for _, parts in compositions)
    whole = np.concatenate([w for w, _ in compositions])
    return whole, np.concatenate([pad_parts(parts, width) for _, parts in compositions])


def pad_parts(parts: IntArray, width: int) -> IntArray:
    return np.pad(parts, ((0, 0), (0, width - parts.shape[1])), constant_values=-1)


def _freeze_together(sets: DisjointSets, root: IntArray, part: IntArray) -> bool:
    """Freeze the parts of what is frozen, and of what is composed of itself. True if any was not."""
    changed = False
    frozen = sets.frozen_mask()
    # A frozen whole needs all of its parts.
    must = part[frozen[root]]
    must = must[must >= 0]
    if len(must) and not frozen[must].all():
        sets.freeze(must[~frozen[must]], 'part of channels that must stay')
        frozen = sets.frozen_mask()
        changed = True
    # Being composed of oneself and others is an order, not an equality: the others have to stay.
    loop = (part == root[:, None]).any(1) & (part >= 0).any(1)
    others = part[loop][(part[loop] >= 0) & (part[loop] != root[loop][:, None])]
    if len(others) and not frozen[others].all():
        sets.freeze(others, 'a cyclic reshape of channels')
        changed = True
    return changed


def _merge(sets: DisjointSets, root: IntArray, part: IntArray) -> tuple[IntArray, IntArray, bool]:
    """One composition a class: the others are merged into the first, part by part."""
    order = np.argsort(root, kind='stable')
    root, part = root[order], part[order]
    changed = False
    if len(root):
        first = np.concatenate([[True], root[1:] != root[:-1]])
        lead = np.maximum.accumulate(np.where(first, np.arange(len(root)), 0))
        fits = ((part >= 0) == (part[lead] >= 0)).all(1)
        if not fits.all():
            bad = np.concatenate([root[~fits], part[~fits].ravel(), part[lead][~fits].ravel()])
            sets.freeze(bad[bad >= 0], 'channels that are reshaped in several ways')
            changed = True
        for k in range(part.shape[1]):
            both = fits & ~first & (part[:, k] >= 0)
            changed |= sets.union(part[both, k], part[lead[both], k])
        root, part = root[first], part[first]
    return root, part, changed


def tabulate(
    sets: DisjointSets, compositions: Compositions, lines: Sequence[IntArray]
) -> tuple[IntArray, Compositions]:
    """(N, K) representatives of the simple elements that each id is composed of, -1 for none.

    Columns follow the families of ``lines``, so that they mean the same for all positions of a tensor.
    ``compositions`` is what :func:`simplify` left; where they never end they are frozen and dropped.
    """
    size = len(sets)
    everything = sets.find(np.arange(size))
    if not compositions:
        return everything[:, None], compositions
    whole, parts = compositions[0]
    composed = np.full(size, -1, dtype=np.int64)
    composed[sets.find(whole)] = np.arange(len(whole))
    parts = np.where(parts >= 0, sets.find(np.maximum(parts, 0)), -1)
    for _ in range(4):  # parts of parts
        nested = (parts >= 0) & (composed[np.maximum(parts, 0)] >= 0)
        if not nested.any():
            break
        inner = np.where(nested[..., None], parts[composed[np.maximum(parts, 0)]], -1)
        flat = np.concatenate([np.where(nested, -1, parts), inner.reshape(len(parts), -1)], 1)
        parts = flat[:, (flat >= 0).any(0)]
    else:
        sets.freeze(whole, 'a cyclic reshape of channels')
        parts, compositions = sets.find(whole)[:, None], []
    families = families_of(sets, lines)
    place = np.where(parts >= 0, families[np.maximum(parts, 0)] * size + parts, np.iinfo(np.int64).max)
    parts = np.take_along_axis(parts, np.argsort(place, axis=1, kind='stable'), 1)
    table = np.full((size, parts.shape[1]), -1, dtype=np.int64)
    table[:, 0] = everything
    inside = composed[everything] >= 0
    table[inside] = parts[composed[everything[inside]]]
    return table, compositions


def families_of(sets: DisjointSets, lines: Sequence[IntArray]) -> IntArray:
    """(N,) for every id the smallest one that is in one of ``lines`` with it, or tied to such; else 0."""
    family = np.zeros(len(sets), dtype=np.int64)
    if not lines:
        return family
    joined = DisjointSets()
    joined.new(len(sets))
    roots = sets.find(np.concatenate(lines))
    first = np.repeat(roots[np.cumsum([0, *map(len, lines[:-1])])], [len(line) for line in lines])
    joined.union(roots, first)
    family[roots] = joined.find(roots) + 1
    return family[sets.find(np.arange(len(sets)))]
