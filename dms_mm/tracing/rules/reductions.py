"""Operators that see all positions of a dimension at once: reductions, softmax, sorts, running sums, transforms."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..ledger import Ledger
from .along import act_along, along, given
from .layout import dims_of, moved, parted, touching
from .pointwise import pointwise
from .table import rule

REDUCED = 'a reduction over pruned positions'
for _names, _where, _zero in (
    ('amax amin', given(0, 'dim', ()), True),
    ('logsumexp', given(0), False),
    ('argmin', given(0), False),
    ('median nanmedian', given(0), True),
    ('mode', given(0, 'dim', -1), True),
    ('kthvalue', given(1, 'dim', -1), True),
    ('aminmax', given(9), True),
    ('all', given(0), False),
):
    rule(*_names.split())(along(_where, REDUCED, zero=_zero, mix=True))


@rule('mean', 'var', 'std', 'prod', 'var_mean', 'std_mean')
def reduction(ledger: Ledger, out: Any, x: Any, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    """``dim`` may be left out, or be a flag of the overload without it."""
    gone = dims_of(None if isinstance(dim, bool) else dim, x.ndim)
    act_along(ledger, out, x, gone, REDUCED, zero=True, mix=True)


@rule('min')
def extremum(ledger: Ledger, out: Any, x: Any, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    if isinstance(dim, torch.Tensor):
        pointwise(ledger, out, x, dim, operator='maximum')
    else:
        reduction(ledger, out, x, dim)


def over_zeros(ledger: Ledger, out: Any, x: Any, dims: set[int], reason: str) -> None:
    """A sum over ``dims``: dead positions add nothing if they are zero."""
    gone, rest = parted(ledger, x, dims)
    for own, ids in gone:
        if not ledger.request(x, ids):
            ledger.freeze([(own, ids)], ledger.refused(ids, reason))
    # Divided by their number it is a mean, of which a module may run on what lives alone.
    out._dms_summed = math.prod(int(x.shape[d]) for d in dims) if gone else 0
    keep = out.ndim == x.ndim
    to = [d if keep else d - sum(g < d for g in dims) for d in range(x.ndim)]
    ledger.put(out, moved(rest, to), None, ledger.makers(x), {to[d] for d in ledger.free(x) if d not in dims})


@rule('sum', 'nansum', 'count_nonzero', 'any')
def total(ledger: Ledger, out: Any, x: Any, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    over_zeros(ledger, out, x, dims_of(dim, x.ndim), 'a sum over pruned positions')


@rule('linalg_vector_norm')
def vector_norm(ledger: Ledger, out: Any, x: Any, ord: Any = 2, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    """A norm of a negative order sees the smallest number."""
    if ord < 0:
        act_along(ledger, out, x, dims_of(dim, x.ndim), REDUCED, mix=True)
    else:
        over_zeros(ledger, out, x, dims_of(dim, x.ndim), 'a norm over pruned positions')


@rule('norm')
def norm(ledger: Ledger, out: Any, x: Any, p: Any = 2, dim: Any = None, *args: Any, **kwargs: Any) -> None:
    vector_norm(ledger, out, x, 2 if p is None else p, dim)


@rule('cumsum')
def cumsum(ledger: Ledger, out: Any, x: Any, dim: int, *args: Any, **kwargs: Any) -> None:
    """Dead positions add nothing to those behind them if they are zero; their own sums are not."""
    gone = dims_of(dim, x.ndim) if x.ndim else set()
    passed = True
    for own, ids in touching(ledger, x, gone):
        passed = False
        if not ledger.request(x, ids):
            ledger.freeze([(own, ids)], 'a running sum over pruned positions')
    ledger.put(out, ledger.entries(x), None, ledger.makers(x) if passed else None, ledger.free(x) - gone)
    # Of counts it is where each position's ends; what is dead has none.
    out._dms_ends = x.ndim == 1 and ledger.makers(x) == frozenset()


for _names, _where, _zero in (
    ('_safe_softmax _log_softmax', given(0), False),
    ('cumprod', given(0), True),
    ('cummax cummin', given(0), True),
    ('logcumsumexp', given(0), False),
    ('sort', given(0, 'dim', -1), True),
    ('_fft_r2c _fft_c2r _fft_c2c', given(0), True),
    ('renorm', lambda x, p, dim, maxnorm: set(range(x.ndim)) - dims_of(dim, x.ndim), True),
):
    rule(*_names.split())(along(_where, 'a softmax, sort, choice or transform along pruned positions', zero=_zero))
