"""What a search costs, by one measure for all of them: seconds, and MACs of the networks that it ran."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

BACKWARD = 2  # forwards that a backward pass counts as


class Cost:
    """Seconds and MACs processed: those of a forward for every sample, of a backward pass twice those of a forward.

    Attributes:
        macs: of all processes together.
        samples: forwards of single samples, of all processes together.
        seconds: between :meth:`start` and :meth:`stop`, or inside :meth:`clock`.
    """

    def __init__(self, seconds: float = 0.0, macs: float = 0.0, samples: int = 0) -> None:
        self.macs, self.samples = macs, samples
        self._before = seconds
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        return self._before + (time.perf_counter() - self._since if self._since is not None else 0.0)

    def add(self, macs: float, samples: int, backward: bool = False) -> None:
        """Count ``samples`` of this process through a network of ``macs`` a sample; other processes have as many."""
        samples *= world_size()
        self.samples += samples
        self.macs += macs * samples * (1 + BACKWARD if backward else 1)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """The time that passes inside counts."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        """From now on the time counts."""
        self._since = time.perf_counter()

    def stop(self) -> None:
        self._before, self._since = self.seconds, None

    def as_dict(self) -> dict[str, float | int]:
        return dict(seconds=self.seconds, macs=self.macs, samples=self.samples)

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Cost:
        return cls(float(state['seconds']), float(state['macs']), int(state['samples']))

    def __str__(self) -> str:
        return f'{self.seconds:.1f} s, {self.macs:.4g} MACs processed, {self.samples:,} samples'


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    return world_size() == 1 or dist.get_rank() == 0


def averaged(value: Tensor) -> Tensor:
    """The mean over all processes; every one of them gets the same."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
        value /= world_size()
    return value


def from_first(keep: Tensor) -> Tensor:
    """What the first process holds, on all of them."""
    if world_size() > 1:
        numbers = keep.to(torch.uint8)
        dist.broadcast(numbers, 0)
        keep = numbers.to(keep.dtype)
    return keep


def count_samples(batch: Any) -> int:
    """Samples of a batch: the length of its ``inputs``, of the first of several things in it, or of itself."""
    while isinstance(batch, Mapping):
        batch = batch['inputs'] if 'inputs' in batch else next(iter(batch.values()))
        if isinstance(batch, Sequence):
            return len(batch)  # images of sizes of their own
    if isinstance(batch, Sequence):
        first = batch[0]
        return count_samples(first) if isinstance(first, Mapping) else len(first)
    return len(batch)
