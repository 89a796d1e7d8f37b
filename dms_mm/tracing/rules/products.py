"""Products that contract a dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..elements import IntArray
from ..flow import flow_of
from ..ledger import Ledger
from ..poles import is_barred
from .layout import Operand, align, join, note_bias, touching, union_makers
from .table import rule

# What they compute is counted, whether or not anything of it is searched.
COUNTED = {f'aten::{name}' for name in 'mm addmm bmm baddbmm addbmm convolution _grouped_mm'.split()}


def contract(ledger: Ledger, x: Any, x_dim: int, w: Any, w_dim: int, operator: str, heads: bool = False) -> None:
    """Tie the contracted dimension of both sides and note which parameter takes the mask.

    ``heads``: in a batch of products, what is computed from parameters alone is no weight.
    """
    a, b = ledger.along(x, x_dim), ledger.along(w, w_dim)
    sides = [(x, x_dim, a), (w, w_dim, b)]
    weight = next((side for side in reversed(sides) if ledger.source(side[0])), None)
    if weight is None and not heads:
        fixed = [side for side in sides if not flow_of(side[0]).data]
        weight = fixed[0] if len(fixed) == 1 else None
    if weight is not None:
        ledger.produce(weight[0], [ids for d, ids in ledger.axes(weight[0]) if d != weight[1]])
    if not a and not b:
        return
    if ledger.sums_out:
        ledger.trace.several += a + b
    if not a or not b:
        ledger.freeze([(0, ids) for ids in a + b], f'{operator} with an input that nothing prunes')
        return
    if weight is not None:
        other = sides[0] if weight is sides[1] else sides[1]
        _mask_weight(ledger, weight, other, operator)
    else:
        # Dead positions must be zero on one side at least; both sides' masks are the paper's choice for queries and
        # keys.
        asked = [ledger.request(y, ids) for y, _, lists in sides for ids in lists]
        if not any(asked):
            reason = f'{operator} of two activations whose dead positions are not zero'
            ledger.freeze([(0, ids) for ids in a + b], ledger.refused((a + b)[0], reason))
        # What is computed of parameters alone, a spectral norm say, is no attention.
        ledger.trace.head_dims += a + b if any(flow_of(y).data for y, *_ in sides) else []
    align(ledger, [a, b], operator)


Side = tuple[Any, int, list[IntArray]]  # a tensor, its contracted dimension, and the elements along it


def _mask_weight(ledger: Ledger, weight: Side, other: Side, operator: str) -> None:
    """Dead positions are zero in a weight, or where they come from."""
    tensor, _, lists = weight
    if ledger.masked(other[0], other[2]):
        return
    name = ledger.source(tensor)
    if name and not any(is_barred(ledger.trace, frozenset([name]), ids) for ids in lists):
        ledger.consume(tensor, lists)
        return
    if not name and all(ledger.request(tensor, ids) for ids in lists):
        return
    if not all(ledger.request(other[0], ids) for ids in other[2]):
        reason = f'{operator} by a weight whose dead positions are not zero'
        ledger.freeze([(0, ids) for ids in lists], ledger.refused(lists[0], reason))


def zero_where(ledger: Ledger, sides: Sequence[tuple[Any, list[IntArray]]], bias: Any = None) -> frozenset[str] | None:
    """What makes dead positions of a product zero: each side along the dimensions that it gives, and a bias with them.

    ``sides``: a tensor and the ids that the result has of it; one that gives none is not asked.
    """
    giving = [x for x, lists in sides if lists]
    if isinstance(bias, torch.Tensor):
        # A bias has no dimension but the last.
        if len(giving) > 1 or (giving and giving[0] is not sides[-1][0]):
            return None
        giving.append(bias)
    return union_makers(ledger, giving) if giving else None


@rule('mm')
def mm(ledger: Ledger, out: Any, x: Any, w: Any) -> None:
    contract(ledger, x, 1, w, 0, 'a matrix product')
    left, right = ledger.along(x, 0), ledger.along(w, 1)
    makers = zero_where(ledger, [(x, left), (w, right)])
    ledger.put(out, [(0, ids) for ids in left] + [(1, ids) for ids in right], None, makers)
    ledger.cost(1, [(x, 0), (x, 1), (w, 1)])


def _add_bias(ledger: Ledger, out: Any, bias: Any) -> None:
    """A sum with a product that carries its axes already."""
    product = ledger.makers(out)
    ndim = out.ndim
    operands: list[Operand] = [(out, range(ndim)), (bias, range(ndim - bias.ndim, ndim))]
    entries, _ = join(ledger, operands, 'a bias that does not fit its weight')
    covered = {d + ndim - bias.ndim for dims, _ in ledger.entries(bias) for d in dims}
    both = product is not None and all(covered.issuperset(dims) for dims, _ in entries)
    makers = ledger.makers(bias)
    ledger.put(out, entries, None, product | makers if both and product is not None and makers is not None else None)


@rule('addmm')
def addmm(ledger: Ledger, out: Any, bias: Any, x: Any, w: Any, **kwargs: Any) -> None:
    note_bias(ledger, ledger.along(w, 1), bias)
    mm(ledger, out, x, w)
    _add_bias(ledger, out, bias)


@rule('bmm')
def bmm(ledger: Ledger, out: Any, x: Any, w: Any) -> None:
    contract(ledger, x, 2, w, 1, 'a batched matrix product', heads=True)
    batch, other = ledger.along(x, 0), ledger.along(w, 0)
    lead: list[IntArray] = []
    if batch or other:
        lead = align(ledger, [batch, other], 'a batched matrix product with a fixed batch')
        ledger.trace.heads += lead
        # The paper masks heads on queries, keys and values alike.
        for y, lists in ((x, batch), (w, other)):
            for ids in lists:
                ledger.request(y, ids, customary=True)
    left, right = ledger.along(x, 1), ledger.along(w, 2)
    if not (ledger.source(x) or ledger.source(w)):
        # Values are weighted by what is not negative; a graph's edges may be.
        ledger.trace.head_dims += right if lead or flow_of(x).low >= 0 else []
        for ids in right:
            ledger.request(w, ids)
    axes = [(0, ids) for ids in lead] + [(1, ids) for ids in left] + [(2, ids) for ids in right]
    # A batch is zero where either side is.
    makers = zero_where(ledger, [(x, left), (w, right if left else right + lead)])
    ledger.put(out, axes, None, makers)
    ledger.cost(1, [(x, 0), (x, 1), (x, 2), (w, 2)])


@rule('baddbmm')
def baddbmm(ledger: Ledger, out: Any, bias: Any, x: Any, w: Any, **kwargs: Any) -> None:
    bmm(ledger, out, x, w)
    _add_bias(ledger, out, bias)


@rule('addbmm')
def addbmm(ledger: Ledger, out: Any, bias: Any, x: Any, w: Any, **kwargs: Any) -> None:
    """The batch is summed over, too."""
    contract(ledger, x, 2, w, 1, 'a batched matrix product', heads=True)
    contract(ledger, x, 0, w, 0, 'a batched matrix product', heads=True)
    left, right = ledger.along(x, 1), ledger.along(w, 2)
    makers = zero_where(ledger, [(x, left), (w, right)])
    ledger.put(out, [(0, ids) for ids in left] + [(1, ids) for ids in right], None, makers)
    _add_bias(ledger, out, bias)
    ledger.cost(1, [(x, 0), (x, 1), (x, 2), (w, 2)])


@rule('mv')
def mv(ledger: Ledger, out: Any, x: Any, w: Any) -> None:
    contract(ledger, x, 1, w, 0, 'a matrix product')
    ledger.put(out, [(0, ids) for ids in ledger.along(x, 0)], None, ledger.makers(x))


@rule('addmv')
def addmv(ledger: Ledger, out: Any, bias: Any, x: Any, w: Any, **kwargs: Any) -> None:
    mv(ledger, out, x, w)
    _add_bias(ledger, out, bias)


@rule('dot', 'vdot')
def dot(ledger: Ledger, out: Any, x: Any, w: Any) -> None:
    contract(ledger, x, 0, w, 0, 'a product of two vectors')


@rule('addr')
def addr(ledger: Ledger, out: Any, bias: Any, x: Any, w: Any, **kwargs: Any) -> None:
    """A sum with the product of all pairs."""
    left, right = ledger.along(x, 0), ledger.along(w, 0)
    makers = zero_where(ledger, [(x, left), (w, right)])
    ledger.put(out, [(0, ids) for ids in left] + [(1, ids) for ids in right], None, makers)
    _add_bias(ledger, out, bias)


@rule('_cdist_forward')
def cdist(ledger: Ledger, out: Any, x: Any, y: Any, *args: Any) -> None:
    """Differences of dead positions add nothing if both are zero."""
    reason = 'distances over pruned positions'
    a, b = ledger.along(x, x.ndim - 1), ledger.along(y, y.ndim - 1)
    asked = [ledger.request(z, ids) for z, lists in ((x, a), (y, b)) for ids in lists]
    if a and b and all(asked):
        align(ledger, [a, b], reason)
    else:
        ledger.freeze([(0, ids) for ids in a + b], reason)
    lead = list(range(x.ndim - 2))
    operands: list[Operand] = [(x, [*lead, x.ndim - 2, None]), (y, [*lead, x.ndim - 1, None])]
    ledger.put(out, join(ledger, operands, 'distances with a fixed batch')[0])


@rule('linalg_cross')
def cross(ledger: Ledger, out: Any, x: Any, y: Any, dim: int = -1) -> None:
    acted = dim % x.ndim
    places = [None if d == acted else d for d in range(x.ndim)]
    reason = 'a cross product along pruned positions'
    ledger.freeze([*touching(ledger, x, {acted}), *touching(ledger, y, {acted})], reason)
    ledger.put(out, join(ledger, [(x, places), (y, places)], 'a cross product with a fixed tensor')[0])
