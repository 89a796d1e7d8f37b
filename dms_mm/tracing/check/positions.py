"""Which positions of a tensor live, and whether two tensors hold the same numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..elements import Elements, IntArray
from ..findings import Entries
from .roles import Shape

Alive = list[np.ndarray]  # per dimension of a tensor which positions live


def lives_of(ids: IntArray, elements: Elements, keep: np.ndarray) -> np.ndarray:
    parts = elements.parts(ids)
    lives: np.ndarray = (keep[np.maximum(parts, 0)] | (parts < 0)).all(-1)
    return lives


def alive_of(shape: Shape, entries: Entries, elements: Elements, keep: np.ndarray) -> Alive:
    """Per dimension which positions live. Raises ValueError for ids that don't fit, or if what lives is no box."""
    alive: Alive = [np.ones(size, dtype=bool) for size in shape]
    boxes = []
    for dims, ids in entries:
        if ids.shape != tuple(shape[d] for d in dims):
            raise ValueError(f'elements of shape {ids.shape} along {dims} of a tensor of shape {tuple(shape)}')
        lives = lives_of(ids, elements, keep)
        boxes.append((dims, lives))
        for k, d in enumerate(dims):
            alive[d] &= lives.any(tuple(e for e in range(ids.ndim) if e != k))
    for dims, lives in boxes:
        if len(dims) > 1 and not lives[np.ix_(*(alive[d] for d in dims))].all():
            raise ValueError('what lives is no box')
    return alive


def cut(x: Tensor, alive: Alive) -> Tensor:
    """The living positions of a tensor."""
    for d, a in enumerate(alive):
        if not a.all():
            x = x.index_select(d, torch.from_numpy(np.flatnonzero(a)))
    return x


def dead_of(shape: Sequence[int], dims: tuple[int, ...], ids: IntArray, gone: np.ndarray, elements: Elements) -> Tensor:
    """Bool, broadcastable to ``shape``: positions with an element in ``gone``."""
    parts = elements.parts(ids)
    dead = (gone[np.maximum(parts, 0)] & (parts >= 0)).any(-1)
    return torch.from_numpy(dead.reshape([shape[d] if d in dims else 1 for d in range(len(shape))]))


def same_numbers(have: Tensor, want: Tensor) -> bool:
    """Equal to rounding: 1e-9 of the largest number in double precision, 1e-4 in less."""
    if not (have.is_floating_point() or have.is_complex()):
        return torch.equal(have, want)
    finite = want[want.isfinite()].abs()
    tolerance = 1e-9 if have.dtype in (torch.float64, torch.complex128) else 1e-4
    size = max(1.0, float(finite.max())) if finite.numel() else 1.0
    return torch.allclose(have, want, rtol=tolerance, atol=tolerance * size, equal_nan=True)
