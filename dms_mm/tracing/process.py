"""What a forward may change in its process: random generators, and flags of torch."""

from __future__ import annotations

import contextlib
import gc
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

Access = tuple[Callable[[], Any], Callable[[Any], Any]]  # how it is read and written


def _attribute(owner: Any, name: str) -> Access:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


def _autocast(device: str) -> list[Access]:
    return [
        (lambda: torch.is_autocast_enabled(device), lambda on: torch.set_autocast_enabled(device, on)),
        (lambda: torch.get_autocast_dtype(device), lambda dtype: torch.set_autocast_dtype(device, dtype)),
    ]


def _set_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


FLAGS: list[Access] = [
    (random.getstate, random.setstate),
    (lambda: np.random.get_state(legacy=True), np.random.set_state),
    (torch.get_rng_state, torch.set_rng_state),
    (torch.is_grad_enabled, torch._C._set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        _set_deterministic,
    ),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    *_autocast('cpu'),
    *_autocast('cuda'),
    *(_attribute(torch.backends.cudnn, name) for name in ('benchmark', 'deterministic', 'enabled')),
    (torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),
    (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return bool(torch.equal(a, b))
    if isinstance(a, tuple):
        return all(map(_same, a, b))
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else bool(a == b)


@contextlib.contextmanager
def same_process() -> Iterator[None]:
    """Whatever happens inside, generators and flags are afterwards what they were."""
    before = [read() for read, _ in FLAGS]
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        for (read, write), value in zip(FLAGS, before):
            if not _same(value, read()):
                write(value)
        if gpus is not None:
            torch.cuda.set_rng_state_all(gpus)


_outside: list[bool] = []  # whether it was on, before each that is uncollected now


@contextlib.contextmanager
def _collecting(on: bool) -> Iterator[None]:
    set_to = {True: gc.enable, False: gc.disable}
    before = gc.isenabled()
    set_to[on]()
    try:
        yield
    finally:
        set_to[before]()


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's collector of cycles, which looks through all that a trace makes some hundred times.

    For work on tensors without data: what waits to be collected takes little memory.
    """
    _outside.append(gc.isenabled())
    try:
        with _collecting(False):
            yield
    finally:
        _outside.pop()


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """With it, unless its user has switched it off, for work on tensors that have data inside of what is
    :func:`uncollected`."""
    with _collecting(_outside[0] if _outside else gc.isenabled()):
        yield
