"""Tables over one or two counts, monotone, and what lies between their points, for many of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


def monotone(values: np.ndarray) -> np.ndarray:
    """The smallest table above the values in which none falls along any axis. Where more channels are faster, as
    multiples of 8 may be, they take what the slower fewer do: a prediction is rather too high."""
    above = values.astype(np.float64)
    for axis in range(values.ndim):
        above = np.maximum.accumulate(above, axis)
    return above


class Grids(nn.Module):
    """Bilinear interpolation in T tables; outside of its points each goes on as at the nearest.

    Args:
        points: per table one or two lists of growing points.
        values: per table an array of that many values.
    """

    rows: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, points: Sequence[Sequence[Sequence[float]]], values: Sequence[np.ndarray]) -> None:
        super().__init__()
        axes = [[*map(list, lines), [0.0], [0.0]][:2] for lines in points]
        tables = [
            np.asarray(v, dtype=np.float64).reshape([len(line) for line in lines]) for v, lines in zip(values, axes)
        ]
        # Two points at least, so that there is always something between.
        high = max([2, *(len(lines[0]) for lines in axes)])
        wide = max([2, *(len(lines[1]) for lines in axes)])
        self._buffer('rows', [_padded(lines[0], high) for lines in axes], (len(axes), high))
        self._buffer('columns', [_padded(lines[1], wide) for lines in axes], (len(axes), wide))
        padded = [np.pad(t, ((0, high - t.shape[0]), (0, wide - t.shape[1])), mode='edge') for t in tables]
        self._buffer('values', padded, (len(axes), high, wide))

    def _buffer(self, name: str, values: object, shape: tuple[int, ...]) -> None:
        self.register_buffer(name, torch.as_tensor(np.array(values, dtype=np.float64).reshape(shape)), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(T,) float64 at (T,) coordinates of both axes."""
        i, along = _place(self.rows, x)
        j, across = _place(self.columns, y)
        wide = self.values.shape[2]
        flat = self.values.flatten(1)
        corner = torch.stack([i * wide + j, i * wide + j + 1, (i + 1) * wide + j, (i + 1) * wide + j + 1], 1)
        a, b, c, d = flat.gather(1, corner).unbind(1)
        near, far = torch.lerp(a, b, across), torch.lerp(c, d, across)
        return torch.lerp(near, far, along)


def _padded(points: list[float], length: int) -> list[float]:
    return points + [points[-1] + k + 1.0 for k in range(length - len(points))]


def _place(points: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Which two points a coordinate lies between, and how far from the first, from 0 to 1."""
    index = torch.searchsorted(points, x.detach()[:, None], right=True)[:, 0] - 1
    index = index.clamp(0, points.shape[1] - 2)
    low, high = (points.gather(1, (index + k)[:, None])[:, 0] for k in (0, 1))
    return index, ((x - low) / (high - low)).clamp(0, 1)
