"""Matrix products: the contracted dimension is tied, and somebody takes its mask."""

from __future__ import annotations

from typing import Any

import torch

from ..elements import IntArray
from ..ledger import Ledger
from .layout import align, note_bias, tie, union_makers
from .table import rule


def contract(ledger: Ledger, x: Any, x_dim: int, w: Any, w_dim: int, operator: str) -> None:
    """Tie the contracted dimension of both sides and note which parameter takes the mask."""
    a, b = ledger.along(x, x_dim), ledger.along(w, w_dim)
    holder, dim = (w, w_dim) if ledger.source(w) else (x, x_dim)
    own = bool(ledger.source(holder))
    if own:
        ledger.produce(holder, [ids for d, ids in ledger.axes(holder) if d != dim])
    if not a and not b:
        return
    if not a or not b:
        ledger.freeze([(0, ids) for ids in a + b], f'{operator} with an input that nothing prunes')
        return
    # Dead positions must be zero on one side at least; both sides' masks are the paper's choice for queries and keys.
    if own:
        other, lists = (x, a) if holder is w else (w, b)
        if not ledger.masked(other, lists):
            ledger.consume(holder, b if holder is w else a)
    else:
        asked = [ledger.request(y, ids) for y, lists in ((x, a), (w, b)) for ids in lists]
        if not any(asked):
            ledger.freeze(
                [(0, ids) for ids in a + b], f'{operator} of two activations whose dead positions are not zero'
            )
        ledger.trace.head_dims += a + b
    align(ledger, [a, b], operator)


def product_makers(ledger: Ledger, x: Any, w: Any, bias: Any = None) -> frozenset[str] | None:
    """What makes the output of ``x @ w`` zero: the weight's other dimension, and the bias with it."""
    makers = ledger.makers(w)
    if makers is None or not isinstance(bias, torch.Tensor):
        return makers
    extra = ledger.makers(bias)
    return None if extra is None else makers | extra


@rule('mm')
def mm(ledger: Ledger, out: Any, x: Any, w: Any) -> None:
    contract(ledger, x, 1, w, 0, 'a matrix product')
    left, right = ledger.along(x, 0), ledger.along(w, 1)
    ledger.put(
        out,
        [(0, ids) for ids in left] + [(1, ids) for ids in right],
        None,
        ledger.makers(w if right or not left else x),
    )
    ledger.cost(1, [(x, 0), (x, 1), (w, 1)])


@rule('addmm')
def addmm(ledger: Ledger, out: Any, bias: Any, x: Any, w: Any, **kwargs: Any) -> None:
    note_bias(ledger, ledger.along(w, 1), bias)
    mm(ledger, out, x, w)
    makers = union_makers(ledger, [out, bias])
    ledger.put(out, tie(ledger, [out, bias], 'a bias that does not fit its weight'), None, makers)


@rule('bmm')
def bmm(ledger: Ledger, out: Any, x: Any, w: Any) -> None:
    contract(ledger, x, 2, w, 1, 'a batched matrix product')
    batch, other = ledger.along(x, 0), ledger.along(w, 0)
    lead: list[IntArray] = []
    if batch or other:
        lead = align(ledger, [batch, other], 'a batched matrix product with a fixed batch')
        ledger.trace.heads += lead
        # The paper masks heads on queries, keys and values alike.
        for y, lists in ((x, batch), (w, other)):
            for ids in lists:
                ledger.request(y, ids)
    left, right = ledger.along(x, 1), ledger.along(w, 2)
    if not (ledger.source(x) or ledger.source(w)):
        ledger.trace.head_dims += right
        for ids in right:
            ledger.request(w, ids)
    axes = [(0, ids) for ids in lead] + [(1, ids) for ids in left] + [(2, ids) for ids in right]
    ledger.put(out, axes, None, ledger.makers(w if right or not left else x))
    ledger.cost(1, [(x, 0), (x, 1), (x, 2), (w, 2)])


@rule('baddbmm')
def baddbmm(ledger: Ledger, out: Any, bias: Any, x: Any, w: Any, **kwargs: Any) -> None:
    bmm(ledger, out, x, w)
    ledger.put(out, tie(ledger, [out, bias], 'a bias that does not fit its product'))


@rule('mv')
def mv(ledger: Ledger, out: Any, x: Any, w: Any) -> None:
    contract(ledger, x, 1, w, 0, 'a matrix product')
    ledger.put(out, [(0, ids) for ids in ledger.along(x, 0)], None, ledger.makers(x))
