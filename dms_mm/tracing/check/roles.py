"""What the inputs of a sample are to a model, and which of their dimensions carry elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]
KINDS = ('activation', 'made', 'parameter')


@dataclass(frozen=True)
class Role:
    """``kind``: 'fixed' carries no elements; 'activation' carries them, and its dead positions hold anything; of 'made'
    a parameter's masks make them zero; 'parameter' is one.

    ``dims``: those that carry elements, None for all. ``split``: a dimension and the two sizes that a view merged into
    it, each with elements of its own. ``merged``: the first of two dimensions that a view made of one, so that elements
    span both.
    """

    kind: str = 'fixed'
    dims: frozenset[int] | None = None
    split: tuple[int, tuple[int, int]] | None = None
    merged: int | None = None

    @property
    def viewed(self) -> bool:
        return self.split is not None or self.merged is not None

    def base_shape(self, shape: Sequence[int]) -> Shape:
        """The shape before that view."""
        sizes = list(shape)
        if self.split is not None:
            d, parts = self.split
            sizes[d : d + 1] = parts
        elif self.merged is not None:
            sizes[self.merged : self.merged + 2] = [sizes[self.merged] * sizes[self.merged + 1]]
        return tuple(sizes)

    def carries(self, d: int) -> bool:
        """Whether dimension ``d`` before that view carries elements."""
        return self.kind != 'fixed' and (self.dims is None or d in self.dims)

    def __str__(self) -> str:
        text = self.kind
        text += f' along {sorted(self.dims)}' if self.dims is not None else ''
        text += f' split at {self.split[0]} into {self.split[1]}' if self.split is not None else ''
        return text + (f' merged at {self.merged}' if self.merged is not None else '')


@dataclass(frozen=True)
class Cast:
    """Roles of all inputs; ``shared``: (input, dimension, input, dimension) that carry the same elements."""

    roles: tuple[Role, ...]
    shared: tuple[int, int, int, int] | None = None


def casts(shapes: Sequence[Shape], generator: np.random.Generator, brief: bool = False) -> Iterator[Cast]:
    """Casts of inputs of these shapes: all alike, mixed, one dimension at a time, at random, viewed, shared.

    ``brief`` for operators that run by a rule which others prove as well.
    """
    n = len(shapes)
    for kind in KINDS:
        yield Cast((Role(kind),) * n)
    if n > 1:
        for first, rest in (('activation', 'parameter'), ('made', 'parameter'), ('parameter', 'activation')):
            yield Cast(tuple(Role(first if k == 0 else rest) for k in range(n)))
    yield _random(shapes, generator)
    yield from _viewed(shapes, KINDS[:1] if brief else KINDS[::2], generator)
    if not brief:
        yield from _single(shapes)
        yield _random(shapes, generator)
        yield from _shared(shapes, generator)


def _single(shapes: Sequence[Shape]) -> Iterator[Cast]:
    """One dimension of all inputs, counted from the last as broadcasting does; then one of a single input."""
    n = len(shapes)
    if n == 1:
        return
    for back in range(1, max(map(len, shapes), default=0) + 1):
        dims = [frozenset({len(s) - back}) if len(s) >= back else frozenset() for s in shapes]
        yield Cast(tuple(Role('activation', d) for d in dims))
        yield Cast(tuple(Role('made' if k == 0 else 'parameter', d) for k, d in enumerate(dims)))
    for k, shape in enumerate(shapes[:4]):
        for d in [d for d, s in enumerate(shape) if s > 1]:
            yield Cast(tuple(Role('made', frozenset({d})) if j == k else Role() for j in range(n)))


def _random(shapes: Sequence[Shape], generator: np.random.Generator) -> Cast:
    roles = []
    for shape in shapes:
        some = frozenset(d for d, s in enumerate(shape) if s > 1 and generator.random() < 0.6)
        roles.append(Role(str(generator.choice(KINDS)), some) if some else Role())
    return Cast(tuple(roles))


def _viewed(shapes: Sequence[Shape], kinds: Sequence[str], generator: np.random.Generator) -> Iterator[Cast]:
    for kind in kinds:
        merged, split = [], []
        for shape in shapes:
            pairs = [d for d in range(len(shape) - 1) if shape[d] > 1 and shape[d + 1] > 1]
            merged.append(Role(kind, merged=int(generator.choice(pairs))) if pairs else Role(kind))
            even = [(d, k) for d, s in enumerate(shape) for k in range(2, s) if s % k == 0]
            d, k = even[int(generator.integers(len(even)))] if even else (0, 0)
            split.append(Role(kind, split=(d, (k, shape[d] // k))) if even else Role(kind))
        for roles in (merged, split):
            if any(role.viewed for role in roles):
                yield Cast(tuple(roles))


def _shared(shapes: Sequence[Shape], generator: np.random.Generator) -> Iterator[Cast]:
    places = [(i, d) for i, shape in enumerate(shapes) for d, s in enumerate(shape) if s > 1]
    pairs = [
        (*a, *b) for k, a in enumerate(places) for b in places[k + 1 :] if shapes[a[0]][a[1]] == shapes[b[0]][b[1]]
    ]
    if pairs:
        yield Cast((Role('activation'),) * len(shapes), pairs[int(generator.integers(len(pairs)))])
