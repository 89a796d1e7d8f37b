"""Forwards in which nothing is left to chance: dropout keeps everything, and what is drawn is one number."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Operators that draw -> what every draw is then.
DRAWS = {
    'aten::bernoulli': 1.0,
    'aten::bernoulli_': 1.0,
    'aten::rand': 0.5,
    'aten::rand_like': 0.5,
    'aten::randn': 0.0,
    'aten::randn_like': 0.0,
    'aten::exponential_': 1.0,
}


class _Settled(TorchDispatchMode):
    """How many numbers a slim forward draws is not how many the masked one does; so none is drawn."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if name == 'aten::native_dropout':
            return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
        out = func(*args, **kwargs)
        if name in DRAWS:
            out.fill_(DRAWS[name])
        elif name == 'aten::uniform_':
            low, high = [*args[1:3], *(0.0, 1.0)[len(args) - 1 :]] if len(args) < 3 else args[1:3]
            out.fill_((low + high) / 2)
        elif name == 'aten::normal_':
            out.fill_(args[1] if len(args) > 1 else kwargs.get('mean', 0.0))
        return out


@contextlib.contextmanager
def without_chance(seed: int = 0) -> Iterator[None]:
    """Inside, dropout and drop path keep everything; permutations and what else is drawn are the same every time."""
    # Masks in time are drawn by NumPy (SpecAugment), and layers that drop out by Python's own generator.
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]), _Settled():
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
