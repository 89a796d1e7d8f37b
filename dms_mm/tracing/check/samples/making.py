"""How a sample of our own is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..tape import Tape, record

Input = tuple[int, ...] | Callable[[torch.Generator], Tensor]
SAMPLES: dict[str, list[tuple[Callable[..., Any], tuple[Input, ...]]]] = {}


def own(name: str, function: Callable[..., Any], *inputs: Input) -> None:
    """Add a sample of ``aten::name``, or ``namespace::name``.

    Args:
        inputs: shapes of float64 tensors, or functions of a generator.
    """
    SAMPLES.setdefault(name if '::' in name else f'aten::{name}', []).append((function, inputs))


def program(name: str, function: Callable[..., Any], *inputs: Input) -> None:
    """Add a sample of several operators as models put them together, under a name of its own."""
    SAMPLES.setdefault(name, []).append((function, inputs))


def single(*shape: int) -> Input:
    """A float32 tensor."""
    return lambda generator: torch.randn(shape, generator=generator)


def complex_numbers(*shape: int) -> Input:
    """A complex128 tensor."""
    return lambda generator: torch.randn(shape, generator=generator, dtype=torch.complex128)


def shares(*shape: int) -> Input:
    """A float64 tensor of numbers in (0, 1)."""
    return lambda generator: torch.rand(shape, generator=generator, dtype=torch.float64)


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
