"""Sorted positions as text, read within bounds: nothing is allocated for what doesn't fit."""

from __future__ import annotations

import re
import reprlib

import numpy as np

_RUNS = re.compile(r'[0-9]{1,18}(-[0-9]{1,18})?(,[0-9]{1,18}(-[0-9]{1,18})?)*')  # what int64 can hold


def to_ranges(positions: np.ndarray) -> str:
    """Sorted positions as text: ``[0, 1, 2, 7]`` -> ``'0-2,7'``."""
    positions = np.asarray(positions)
    if not len(positions):
        return ''
    cuts = np.flatnonzero(np.diff(positions) != 1) + 1
    runs = np.split(positions, cuts)
    return ','.join(str(r[0]) if len(r) == 1 else f'{r[0]}-{r[-1]}' for r in runs)


def from_ranges(text: str, size: int) -> np.ndarray:
    """The inverse of :func:`to_ranges`: int64 positions of a dimension of ``size``.

    Raises:
        ValueError: what :func:`count_ranges` says; then nothing of the size of a range was made.
    """
    first, last = _bounds(text, size)
    lengths = last - first + 1
    # Each position is its rank, moved by how far its run lies behind.
    return np.arange(lengths.sum()) + np.repeat(first - np.cumsum(lengths) + lengths, lengths)


def count_ranges(text: str, size: int) -> int:
    """The number of positions, without listing them.

    Raises:
        ValueError: the text is no list of ranges, a position is not below ``size``, or they don't grow.
    """
    first, last = _bounds(text, size)
    return int((last - first + 1).sum())


def _bounds(text: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(R,) first and last position of every run."""
    if not text:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if not _RUNS.fullmatch(text):
        raise ValueError(f'{shorten(text)} is no list of positions like "0-2,7"')
    runs = [run.partition('-') for run in text.split(',')]
    first = np.array([int(a) for a, _, _ in runs], dtype=np.int64)
    last = np.array([int(b or a) for a, _, b in runs], dtype=np.int64)
    if (wrong := last < first).any() or (wrong := np.append(False, first[1:] <= last[:-1])).any():
        raise ValueError(f'positions must grow, and do not at {shorten("".join(runs[int(wrong.argmax())]))}')
    if last[-1] >= size:
        raise ValueError(f'position {last[-1]} is outside of a size of {size}')
    return first, last


def shorten(value: object, most: int = 60) -> str:
    """A value in a message, on one line and not longer than needed to find it."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = most
    return brief.repr(value)
