"""Samples of our own: of operators that torch's database doesn't show, or not in the ways that models use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .tape import Tape, record

Input = tuple[int, ...] | Callable[[torch.Generator], Tensor]
SAMPLES: dict[str, list[tuple[Callable[..., Any], tuple[Input, ...]]]] = {}


def own(name: str, function: Callable[..., Any], *inputs: Input) -> None:
    """Add a sample of ``aten::name``; inputs are shapes of float64 tensors, or functions of a generator."""
    SAMPLES.setdefault(f'aten::{name}', []).append((function, inputs))


def single(*shape: int) -> Input:
    """A float32 tensor."""
    return lambda generator: torch.randn(shape, generator=generator)


def whole(high: int, *shape: int) -> Input:
    """An int64 tensor of numbers below ``high``."""
    return lambda generator: torch.randint(high, shape, generator=generator)


def flags(*shape: int) -> Input:
    """A bool tensor."""
    return lambda generator: torch.rand(shape, generator=generator) < 0.5


def tapes_of_ours(name: str) -> list[Tape]:
    """Tapes of the samples of an operator."""
    tapes = []
    for k, (function, inputs) in enumerate(SAMPLES.get(name, [])):
        generator = torch.Generator().manual_seed(k)
        tensors = [
            torch.randn(x, generator=generator, dtype=torch.float64) if isinstance(x, tuple) else x(generator)
            for x in inputs
        ]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            tapes.append(record(function, tensors))
    return tapes


aten = torch.ops.aten

for _name in ('_reshape_alias', 'as_strided', 'as_strided_'):
    _f = getattr(aten, _name)
    own(_name, lambda x, f=_f: f(x, (4, 6), (6, 1)), (4, 6))
    own(_name, lambda x, f=_f: f(x, (2, 3, 4), (12, 4, 1)), (2, 3, 4))
    own(_name, lambda x, f=_f: f(x, (4, 1, 6), (6, 6, 1)), (4, 6))
own('as_strided', lambda x: torch.as_strided(x, (4, 4), (1, 4)), (4, 4))
own('alias', aten.alias, (4, 6))
own('alias', aten.alias, (2, 4, 6))
own('alias', aten.alias, (6,))

own('slice', lambda x: x[:, 1:4], (3, 6))
own('slice', lambda x: x[..., ::2], (3, 8))
own('slice', lambda x: x[..., 1::2], (3, 8))
own('slice', lambda x: x[:, 1:7:3], (3, 8))
own('slice', lambda x: x[:, -3:], (3, 6))
own('slice', lambda x: x[:, :0], (3, 6))
