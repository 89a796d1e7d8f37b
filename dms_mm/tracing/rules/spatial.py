"""Operators over space: pooling, resampling, windows, padding by what is there, shuffles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..elements import IntArray
from ..ledger import Ledger
from .along import along, last
from .layout import Operand, join, parted, touching
from .table import rule
from .zeros import zero_makers

POOLED = 'pooling or resampling along pruned positions'
for _rank, _names in (
    (1, 'avg_pool1d adaptive_avg_pool1d upsample_nearest1d _upsample_nearest_exact1d upsample_linear1d'),
    (2, 'max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d'),
    (2, 'upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa'),
    (2, '_upsample_bicubic2d_aa'),
    (3, 'max_pool3d_with_indices avg_pool3d _adaptive_avg_pool3d adaptive_avg_pool3d adaptive_max_pool3d'),
    (3, 'upsample_nearest3d _upsample_nearest_exact3d upsample_trilinear3d'),
):
    rule(*_names.split())(along(last(_rank), POOLED, zero=True))
for _rank in (1, 2, 3):
    rule(f'reflection_pad{_rank}d', f'replication_pad{_rank}d')(
        along(last(_rank), 'a padding by pruned positions', zero=True)
    )


@rule('max_unpool2d', 'max_unpool3d')
def unpool(ledger: Ledger, out: Any, x: Any, indices: Any, size: Sequence[int], *args: Any) -> None:
    space = len(size)
    places = [d if d < x.ndim - space else None for d in range(x.ndim)]
    entries, _ = join(ledger, [(x, places), (indices, places)], 'unpooling by fixed places', POOLED)
    ledger.put(out, entries, None, ledger.makers(x))


@rule('grid_sampler_2d', 'grid_sampler_3d')
def grid_sampler(ledger: Ledger, out: Any, x: Any, grid: Any, *args: Any) -> None:
    """Channels are the input's, places in the result the grid's; a batch is both's."""
    space = x.ndim - 2
    operands: list[Operand] = [(x, [0, 1, *[None] * space]), (grid, [0, *range(2, 2 + space), None])]
    entries, copies = join(ledger, operands, 'a sampling with a fixed batch', POOLED)
    # Of zeros it samples zeros.
    ledger.put(out, entries, None, zero_makers(ledger, operands, entries, [frozenset({0})]), copies)


@rule('fractional_max_pool2d', 'fractional_max_pool3d')
def fractional_pool(ledger: Ledger, out: Any, x: Any, kernel: Any, size: Any, samples: Any) -> None:
    space = len(size)
    places = [d if d < x.ndim - space else None for d in range(x.ndim)]
    operands: list[Operand] = [(x, places), (samples, [0, 1, None] if x.ndim > space + 1 else [None, 0, None])]
    entries, _ = join(ledger, operands, 'pooling at fixed places', POOLED)
    for result in out:
        ledger.put(result, entries)


def grouped(ledger: Ledger, x: Any, dim: int, width: int) -> list[IntArray]:
    """Axes of ``dim`` whose positions are tied ``width`` by ``width``; one id a group."""
    result = []
    for _, ids in touching(ledger, x, {dim}):
        grid = ids.reshape(-1, width)
        ledger.elements.union(grid, grid[:, :1])
        result.append(grid[:, 0].copy())
    return result


@rule('im2col')
def im2col(ledger: Ledger, out: Any, x: Any, kernel: Sequence[int], *args: Any) -> None:
    """Each channel becomes one row for every place of the kernel."""
    channel, size = x.ndim - 3, int(np.prod(kernel))
    ledger.freeze(touching(ledger, x, {x.ndim - 2, x.ndim - 1}), 'windows over pruned positions')
    entries = [
        (dims, np.repeat(ids, size)) if dims == (channel,) else (dims, ids)
        for dims, ids in [*touching(ledger, x, {channel}), *touching(ledger, x, set(range(channel)))]
    ]
    ledger.put(out, entries, None, ledger.makers(x))


@rule('col2im')
def col2im(ledger: Ledger, out: Any, x: Any, size: Sequence[int], kernel: Sequence[int], *args: Any) -> None:
    """The rows of one channel are tied."""
    channel = x.ndim - 2
    ledger.freeze(touching(ledger, x, {x.ndim - 1}), 'windows of pruned positions')
    lines = grouped(ledger, x, channel, int(np.prod(kernel)))
    entries = [*(((channel,), ids) for ids in lines), *touching(ledger, x, set(range(channel)))]
    ledger.put(out, entries, None, ledger.makers(x))


@rule('pixel_shuffle')
def pixel_shuffle(ledger: Ledger, out: Any, x: Any, factor: int) -> None:
    channel = x.ndim - 3
    ledger.freeze(touching(ledger, x, {channel + 1, channel + 2}), 'a shuffle of spatial axes')
    lines = grouped(ledger, x, channel, factor * factor)
    entries = [*(((channel,), ids) for ids in lines), *touching(ledger, x, set(range(channel)))]
    ledger.put(out, entries, None, ledger.makers(x))


@rule('pixel_unshuffle')
def pixel_unshuffle(ledger: Ledger, out: Any, x: Any, factor: int) -> None:
    channel = x.ndim - 3
    ledger.freeze(touching(ledger, x, {channel + 1, channel + 2}), 'a shuffle of spatial axes')
    lines = [((channel,), np.repeat(ids, factor * factor)) for _, ids in touching(ledger, x, {channel})]
    ledger.put(out, [*lines, *touching(ledger, x, set(range(channel)))], None, ledger.makers(x))


@rule('channel_shuffle')
def channel_shuffle(ledger: Ledger, out: Any, x: Any, groups: int) -> None:
    """(groups, width) channels in the order (width, groups): all groups keep the same ones."""
    channels, rest = parted(ledger, x, {1})
    for dims, ids in channels:
        grid = ids.reshape(groups, -1)
        ledger.elements.union(grid, grid[:1])
        rest.append((dims, np.repeat(grid[0], groups)))
    ledger.put(out, rest, None, ledger.makers(x), ledger.free(x) - {1})
