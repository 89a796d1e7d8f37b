"""Networks that normalise tensors and weights by hand: what they divide by may be what masks make zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from .kinds_ops import TOKENS, Apply


def _gate(function):
    """A sum over a function of channels, which wants them to be zero where they are dead."""
    return lambda: Apply(
        lambda m, x: m.out(x * function(m.one(x)).sum(-1, keepdim=True)), one=nn.Linear(6, 8), out=nn.Linear(6, 4)
    )


def _ratio(function):
    """The same of a function of two layers."""
    return lambda: Apply(
        lambda m, x: m.out(x * function(m.one(x), m.two(x))),
        one=nn.Linear(6, 8), two=nn.Linear(6, 8), out=nn.Linear(6, 4),
    )  # fmt: skip


def _total(x: Tensor) -> Tensor:
    return x.sum(-1, keepdim=True)


def _weight(function, gain=(8, 1), gate=False):
    """A layer whose weight is a function of two parameters, between two others; or one whose output is summed."""

    def forward(m, x):
        y = F.linear(m.first(x).relu(), function(m.v, m.g))
        return m.out(x * _total(y)) if gate else m.out(y.relu())

    return lambda: Apply(
        forward, first=nn.Linear(6, 10), v=nn.Parameter(torch.randn(8, 10)), g=nn.Parameter(torch.rand(gain) + 0.5),
        out=nn.Linear(6 if gate else 8, 4),
    )  # fmt: skip


def _norm(v: Tensor, dim: int = 1) -> Tensor:
    return v.norm(dim=dim, keepdim=True)


ROWS = {'one': 8}
WEIGHT = {'first': 10, 'v': 8}
# name -> what makes the network, sizes of its units
KINDS = {
    'a sign': (_gate(lambda v: v / v.abs()), {}),
    'a sign with eps': (_gate(lambda v: v / (v.abs() + 1e-3)), ROWS),
    'over places': (_gate(lambda v: v / _norm(v)), {}),
    'over places with eps': (_gate(lambda v: v / (_norm(v) + 1e-3)), ROWS),
    'over places with a least': (_gate(lambda v: v / _norm(v).clamp_min(1e-3)), ROWS),
    'over places with eps in the root': (_gate(lambda v: v / (v.pow(2).sum(1, keepdim=True) + 1e-3).sqrt()), ROWS),
    'over places by rsqrt': (_gate(lambda v: v * v.square().sum(1, keepdim=True).rsqrt()), {}),
    'over places by rsqrt with eps': (_gate(lambda v: v * (v.square().mean(1, keepdim=True) + 1e-3).rsqrt()), ROWS),
    'a logarithm': (_gate(lambda v: v * v.abs().log()), {}),
    'a reciprocal': (_gate(lambda v: v * v.reciprocal()), {}),
    'a negative power': (_gate(lambda v: v * v.abs() ** -0.5), {}),
    'softsign': (_gate(F.softsign), ROWS),
    'by another layer': (_ratio(lambda a, b: _total(a / b)), ROWS),
    'by another layer that is summed': (_ratio(lambda a, b: _total(a / b) + _total(b)), {}),
    'by another layer that was summed': (_ratio(lambda a, b: _total(b) + _total(a / b)), {}),
    'a weight': (_weight(lambda v, g: v * (g / _norm(v))), WEIGHT),
    'a weight, gain first': (_weight(lambda v, g: g * v / _norm(v)), {'first': 10, 'g': 8}),
    'a weight, gain of a vector': (_weight(lambda v, g: v * (g / v.norm(dim=1))[:, None], (8,)), WEIGHT),
    'a weight, summed behind': (_weight(lambda v, g: v * (g / _norm(v)), gate=True), WEIGHT),
    'a weight, gain first, summed behind': (
        _weight(lambda v, g: g * v / _norm(v), gate=True), {'first': 10, 'g': 8},
    ),
    'a weight without gain': (_weight(lambda v, g: v / _norm(v) + g * 0), WEIGHT),
    'a weight without gain, summed behind': (_weight(lambda v, g: v / _norm(v) + g * 0, (1,), True), {'first': 10}),
    'a weight along columns': (_weight(lambda v, g: g * v / _norm(v, 0), (1, 10)), WEIGHT),
    'a weight along columns with eps': (_weight(lambda v, g: g * v / (_norm(v, 0) + 1e-3), (1, 10)), WEIGHT),
    'a weight as a whole': (_weight(lambda v, g: g * v / v.norm(), (1,)), WEIGHT),
    'a scaled weight': (_weight(lambda v, g: v * g.exp()), WEIGHT),
}  # fmt: skip


def build(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return KINDS[name][0](), TOKENS
