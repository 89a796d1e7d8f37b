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


def random_copy(module: nn.Module) -> tuple[Any, torch.Generator]:
    """A module to try: float64, eval, without hooks, parameters in (0, 1); and the generator for its inputs."""
    generator = torch.Generator().manual_seed(0)
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.rand(p.shape, generator=generator, dtype=torch.float64), requires_grad=False)
        for p in module.parameters()
    }
    trial = copy.deepcopy(module, memo).eval().double()
    for m in trial.modules():
        m._forward_hooks.clear()
        m._forward_pre_hooks.clear()
    return trial, generator
