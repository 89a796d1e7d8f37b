"""Elementwise operators: what they align lives and dies together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ..ledger import Ledger, tensors_of
from ..numbers import number_in
from ..poles import DIVIDED, bar
from .layout import Operand, broadcast, join, note_bias, parted, wrap
from .table import rule
from .zeros import poles, spare_makers, zero_makers, zeroing

MEANS = {f'aten::{name}' for name in ('div', 'div_', 'mul', 'mul_')}


def _is_mean(operator: str, total: Any, args: Sequence[Any]) -> bool:
    """A sum over pruned positions is divided by how many there are."""
    count = Ledger.summed(total)
    number = next((float(v) for a in args if (v := number_in(a)) is not None), 0.0)
    return math.isclose(number, count if operator.startswith('div') else 1 / count, rel_tol=1e-6)


def _zeroing(operator: str, args: Sequence[Any]) -> Sequence[frozenset[int]]:
    try:
        return zeroing(operator, _kinds(args))
    except TypeError:  # an argument that has no hash
        return ()


def _poles(operator: str, args: Sequence[Any]) -> Iterable[int]:
    try:
        return poles(operator, _kinds(args)) if operator else ()
    except TypeError:
        return ()


def _kinds(args: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(a.dtype if isinstance(a, torch.Tensor) else a for a in args)


# Elementwise, but not tagged so, or not for all overloads.
@rule(
    *(
        'native_dropout bernoulli bernoulli_ copy_ fill_ zero_ add_ mul_ div_ sub_ relu_ hardtanh hardtanh_ silu silu_ '
        'hardswish hardswish_ leaky_relu_ elu elu_ where masked_fill masked_fill_ clamp_ rsub rrelu_with_noise '
        'nan_to_num floor_divide floor_divide_ complex polar fill copy log_sigmoid_forward square_ '
        'uniform_ normal_ exponential_ geometric_ cauchy_ log_normal_ random_'
    ).split()
)
def pointwise(ledger: Ledger, out: Any, *args: Any, operator: str = '', **kwargs: Any) -> None:
    """Tie what broadcasting aligns."""
    tensors = tensors_of((args, kwargs))
    operands = broadcast(tensors)
    if operator in ('add', 'add_') and len(tensors) == 2 and tensors[1].ndim == 1 < tensors[0].ndim:
        note_bias(ledger, ledger.along(tensors[0], tensors[0].ndim - 1), tensors[1])
    entries, copies = join(ledger, operands, 'an elementwise operation with a fixed tensor')
    if tensors and Ledger.summed(tensors[0]) and f'aten::{operator}' in MEANS and _is_mean(operator, tensors[0], args):
        ledger.trace.stuck[ledger.stack[-1]] = None
    for k in _poles(operator, args):
        x = tensors[k]
        if (own := ledger.makers(x)) is not None:
            ledger.freeze(bar(ledger.trace, x, ledger.entries(x), own), DIVIDED)
    makers = spare = None
    if entries and any(ledger.makers(x) is not None for x in tensors):
        zeros = _zeroing(operator, args)
        makers = zero_makers(ledger, operands, entries, zeros)
        spare = spare_makers(ledger, operands, entries, zeros) if makers is not None and len(tensors) > 1 else None
    ndim = max((x.ndim for x in tensors), default=0)
    for k, result in enumerate(tensors_of(out)):
        if result.ndim == ndim:
            ledger.put(result, entries, None, makers if k == 0 else None, copies, spare if k == 0 else None)
        else:
            ledger.freeze(entries, 'an elementwise operation of unusual shape')


@rule('_prelu_kernel')
def prelu(ledger: Ledger, out: Any, x: Any, weight: Any) -> None:
    """Zero where its input is."""
    operands: list[Operand] = [(x, range(x.ndim)), (weight, range(x.ndim))]
    entries, copies = join(ledger, operands, 'PReLU')
    ledger.put(out, entries, None, zero_makers(ledger, operands, entries, [frozenset({0})]), copies)


@rule('glu')
def glu(ledger: Ledger, out: Any, x: Any, dim: int = -1) -> None:
    """The halves of one dimension are tied."""
    dim = wrap(dim, x.ndim)
    halves, rest = parted(ledger, x, {dim})
    for dims, ids in halves:
        a, b = np.split(ids, 2)
        ledger.elements.union(a, b)
        rest.append((dims, a))
    ledger.put(out, rest, None, ledger.makers(x))
