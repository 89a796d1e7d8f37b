"""Operators that are looked at by their parts: composite ones, and those whose parts are said here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table

from ...registry import OPERATORS


def trilinear(
    x: Tensor,
    y: Tensor,
    z: Tensor,
    ex: Sequence[int],
    ey: Sequence[int],
    ez: Sequence[int],
    gone: Sequence[int],
    *_: Any,
) -> Tensor:
    """The sum over ``gone`` of the product of three tensors, each with new dimensions."""
    for d in sorted(ex):
        x = x.unsqueeze(d)
    for d in sorted(ey):
        y = y.unsqueeze(d)
    for d in sorted(ez):
        z = z.unsqueeze(d)
    return (x * y * z).sum(list(gone))


def grouped_mm(x: Tensor, weight: Tensor, *_: Any, out_dtype: torch.dtype | None = None, **kwargs: Any) -> Tensor:
    """What a grouped product of rows gives; without data torch knows it of half precision alone."""
    return x.new_empty((x.shape[0], weight.shape[-1]), dtype=out_dtype)


def sampled(x: Tensor, grid: Tensor, *_: Any) -> Tensor:
    """A map at the places of a grid."""
    return x.new_empty((*x.shape[:2], *grid.shape[1:-1]))


# Results of operators that torch doesn't know of tensors without data, or by computing all of their many parts.
SHAPED: dict[str, Callable[..., Any]] = {
    'aten::_grouped_mm': grouped_mm,
    'aten::grid_sampler_2d': sampled,
    'aten::grid_sampler_3d': sampled,
}
# None: what torch itself says.
PARTS: dict[str, Callable[..., Any] | None] = {
    'aten::_trilinear': trilinear,
    **dict.fromkeys(
        f'aten::{name}'
        for name in (
            'rot90 mse_loss huber_loss smooth_l1_loss binary_cross_entropy soft_margin_loss block_diag dist '
            '_unsafe_masked_index alias_copy view_copy permute_copy expand_copy transpose_copy t_copy '
            'squeeze_copy unsqueeze_copy unbind_copy split_with_sizes_copy unfold_copy narrow_copy'
        ).split()
    ),
}


@functools.cache
def parts_of(func: Any) -> Callable[..., Any] | None:
    """What an operator does by others, or None if it is looked at itself.

    Composite operators come to a tracer whole in inference mode only.
    """
    name = func._schema.name
    if name in OPERATORS.module_dict:
        return None
    if name in PARTS:
        return PARTS[name] or decomposition_table.get(func)
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), 'CompositeImplicitAutograd')
    return func.decompose if composite else None
