"""Elementwise operators: what they align lives and dies together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..ledger import Axes, Ledger, tensors_of
from .layout import channel_axes, note_bias, tie, union_makers, wrap
from .table import rule

ZERO_KEEPING = set(
    'relu relu_ relu6 gelu silu silu_ hardswish hardswish_ tanh leaky_relu leaky_relu_ elu elu_ neg abs sqrt square '
    'sin native_dropout _fused_dropout dropout selu celu mish sign expm1 log1p erf round floor ceil hardtanh '
    'hardtanh_'.split()
)


def pointwise_makers(ledger: Ledger, name: str, args: Sequence[Any]) -> frozenset[str] | None:
    """Whose masks make dead positions of an elementwise result zero."""
    tensors = [x for x in args if isinstance(x, torch.Tensor)]
    carriers = [x for x in tensors if ledger.entries(x)]
    if name in ('mul', 'mul_'):
        # One factor that is zero is enough, if it carries the elements of every dimension of the product.
        spans = [{d - x.ndim for dims, _ in ledger.entries(x) for d in dims} for x in carriers]
        every = set().union(*spans)
        return next(
            (m for x, span in zip(carriers, spans) if span == every and (m := ledger.makers(x)) is not None), None
        )
    if name in ('div', 'div_'):
        return ledger.makers(tensors[0]) if ledger.entries(tensors[0]) else None
    if name in ('add', 'sub', 'add_', 'sub_') and len(tensors) > 1:
        return union_makers(ledger, tensors) if len(carriers) == len(tensors) else None
    if name == 'pow' and len(args) > 1 and isinstance(args[1], (int, float)) and args[1] > 0:
        return ledger.makers(args[0])
    if name in ZERO_KEEPING and len(tensors) == 1:
        return ledger.makers(tensors[0])
    return None


@rule(
    *(
        'native_dropout _fused_dropout bernoulli bernoulli_ dropout alpha_dropout feature_dropout copy_ fill_ zero_ '
        'add_ mul_ div_ sub_ relu_ hardtanh hardtanh_ silu silu_ hardswish hardswish_ leaky_relu_ elu elu_ where '
        'masked_fill masked_fill_ clamp_ rsub rrelu_with_noise nan_to_num'
    ).split()
)
def pointwise(ledger: Ledger, out: Any, *args: Any, operator: str = '', **kwargs: Any) -> None:
    tensors = tensors_of((args, kwargs))
    makers = pointwise_makers(ledger, operator, args)
    if operator in ('add', 'add_') and len(tensors) == 2 and tensors[1].ndim == 1 < tensors[0].ndim:
        note_bias(ledger, ledger.along(tensors[0], tensors[0].ndim - 1), tensors[1])
    axes = tie(ledger, tensors, 'an elementwise operation with a fixed tensor')
    for result in tensors_of(out):
        if result.ndim == max((x.ndim for x in tensors), default=0):
            ledger.put(result, axes, None, makers)
            result._dms_free = {
                d
                for d in range(result.ndim)
                if result.shape[d] > 1
                and all((k := d - result.ndim + x.ndim) < 0 or x.shape[k] == 1 or k in ledger.free(x) for x in tensors)
            }
        else:
            ledger.freeze(axes, 'an elementwise operation of unusual shape')


@rule('_prelu_kernel', 'prelu')
def prelu(ledger: Ledger, out: Any, x: Any, weight: Any) -> None:
    if weight.ndim == x.ndim:
        ledger.put(out, tie(ledger, [x, weight], 'PReLU'), None, ledger.makers(x))
    else:
        ledger.put(out, channel_axes(ledger, x, [weight]), None, ledger.makers(x))


@rule('glu')
def glu(ledger: Ledger, out: Any, x: Any, dim: int = -1) -> None:
    dim = wrap(dim, x.ndim)
    result: Axes = []
    for d, ids in ledger.axes(x):
        if d == dim:
            a, b = np.split(ids, 2)
            ledger.elements.union(a, b)
            ids = a
        result.append((d, ids))
    ledger.put(out, result, None, ledger.makers(x))
