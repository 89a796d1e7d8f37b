"""Trials of a module on random numbers, to see what it computes."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

T = TypeVar('T')


def without_modes(function: Callable[..., T]) -> Callable[..., T]:
    """For trials on real tensors while a model is being traced on fake ones."""

    @functools.wraps(function)
    def run(*args: Any) -> T:
        with _disable_current_modes():
            return function(*args)

    return run


def random_copy(module: nn.Module, low: float = 0.0, high: float = 1.0) -> tuple[Any, torch.Generator]:
    """A module to try: float64, eval, without hooks, parameters in (low, high); and the generator for its inputs."""
    generator = torch.Generator().manual_seed(0)
    memo: dict[int, Any] = {
        id(p): nn.Parameter(
            low + (high - low) * torch.rand(p.shape, generator=generator, dtype=torch.float64), requires_grad=False
        )
        for p in module.parameters()
    }
    trial = copy.deepcopy(module, memo).double()
    trial.eval()
    for m in trial.modules():
        m._forward_hooks.clear()
        m._forward_pre_hooks.clear()
    return trial, generator


class _Same:
    """A key that only the same object is equal to; holds it, so that no other one gets its identity."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


def settings_of(module: nn.Module) -> tuple[Any, ...]:
    """What a module's own attributes say, as a key: two modules of one class may compute different things."""
    return tuple((k, _setting(v)) for k, v in vars(module).items() if not k.startswith('_') and k != 'training')


def _setting(value: Any) -> Any:
    if isinstance(value, (int, float, str, bool, type(None), torch.dtype, torch.Size)):
        return value
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype
    return tuple(_setting(v) for v in value) if isinstance(value, (tuple, list)) else _Same(value)
