"""Operators that see all positions of a dimension at once: reductions, softmax, sorts, choices."""

from __future__ import annotations

from typing import Any

import torch

from ..ledger import Ledger, tensors_of
from .layout import dims_of, wrap
from .pointwise import pointwise
from .table import rule


def _reduce(ledger: Ledger, out: Any, x: Any, gone: set[int]) -> None:
    result = tensors_of(out)[0]
    keepdim = result.ndim == x.ndim
    rest = [(d if keepdim else d - sum(g < d for g in gone), ids) for d, ids in ledger.axes(x) if d not in gone]
    for tensor in tensors_of(out):
        ledger.put(tensor, rest, None, ledger.makers(x))


@rule('mean', 'amax', 'amin', 'var', 'std', 'prod', 'var_mean', 'std_mean', 'logsumexp', 'all', 'any')
def reduction(ledger: Ledger, out: Any, x: Any, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    gone = dims_of(None if isinstance(dim, bool) or tensors_of(out)[0].ndim == 0 else dim, x.ndim)
    ledger.mix([a for a in ledger.axes(x) if a[0] in gone], 'a reduction over pruned positions')
    _reduce(ledger, out, x, gone)


@rule('sum', 'linalg_vector_norm', 'norm')
def total(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    """Sums pass over dead positions that are zero."""
    lists = [a for a in args if isinstance(a, (list, tuple))]
    dim = kwargs.get('dim', lists[0] if lists else next((a for a in args if type(a) is int), None))
    gone = dims_of(None if tensors_of(out)[0].ndim == 0 else dim, x.ndim)
    for d, ids in ledger.axes(x):
        if d in gone and not ledger.request(x, ids):
            ledger.freeze([(d, ids)], 'a sum over pruned positions')
    _reduce(ledger, out, x, gone)


@rule('max', 'min')
def extremum(ledger: Ledger, out: Any, x: Any, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    if isinstance(dim, torch.Tensor):
        pointwise(ledger, out, x, dim)
    else:
        reduction(ledger, out, x, dim)


@rule('_softmax', '_safe_softmax', '_log_softmax', 'softmax', 'log_softmax', 'cumsum', 'glu_', 'sort', 'argsort')
def softmax(ledger: Ledger, out: Any, x: Any, dim: int = -1, *args: Any, **kwargs: Any) -> None:
    dim = wrap(dim, x.ndim)
    ledger.freeze([a for a in ledger.axes(x) if a[0] == dim], 'a softmax, sum or sort along pruned positions')
    for tensor in tensors_of(out):
        ledger.put(tensor, [a for a in ledger.axes(x) if a[0] != dim])


@rule('topk', 'kthvalue', 'median', 'mode', 'cummax', 'cummin')
def selection(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    ledger.freeze(ledger.entries(x), 'a choice among pruned positions')
