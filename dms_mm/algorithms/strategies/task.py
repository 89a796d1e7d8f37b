"""What a strategy may look at: batches, and how any model of the space runs on one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..cost import Cost, count_samples

State = dict[str, Any]  # numbers and tensors


@dataclass
class Task:
    """The data of a search, and what is computed of it.

    Args:
        batches: training batches: for gradients, and to recalibrate batch norms.
        held_out: batches that no weight was trained on, by which structures are compared.
        loss: ``(model, batch)`` -> () mean loss over the batch, differentiable.
        shape: of one input of the network, for inputs of noise.
        forward: ``(model, inputs)`` -> output, on inputs (B, *shape); ``model(inputs)`` by default.
        value: ``(model, batch)`` -> a number that is higher for the better model, the mean over the batch; minus the
            loss by default.
    """

    batches: Sequence[Any] = ()
    held_out: Sequence[Any] = ()
    loss: Callable[[nn.Module, Any], Tensor] | None = None
    shape: Sequence[int] = ()
    forward: Callable[[nn.Module, Tensor], Any] = lambda model, inputs: model(inputs)
    value: Callable[[nn.Module, Any], float] | None = None
    samples: Callable[[Any], int] = count_samples

    def loss_of(self, model: nn.Module, batch: Any) -> Tensor:
        if self.loss is None:
            raise ValueError('this strategy needs a loss: give Task(loss=...)')
        return self.loss(model, batch)

    def value_of(self, model: nn.Module, batch: Any) -> float:
        return self.value(model, batch) if self.value is not None else -float(self.loss_of(model, batch))

    def some(self, what: str, count: int) -> Sequence[Any]:
        """The first ``count`` of ``batches`` or ``held_out``.

        Raises:
            ValueError: there are fewer.
        """
        found = getattr(self, what)
        if len(found) < count:
            raise ValueError(f'this strategy needs {count} batches as `{what}`, there are {len(found)}')
        return found[:count]


@dataclass
class Budget:
    """What a search may spend, and what it leaves for one that goes on.

    Attributes:
        cost: what was spent, by whatever came before, too.
        limit: MACs processed at which no further structure is tried.
        seed: of everything that is drawn.
        state: what an interrupted search gave to ``save`` last, or None.
        save: called with what a search needs to go on.
        log: called with a line on how it goes.
    """

    cost: Cost = field(default_factory=Cost)
    limit: float = math.inf
    seed: int = 0
    state: State | None = None
    save: Callable[[State], None] = lambda state: None
    log: Callable[[str], None] = lambda line: None

    def spent(self) -> bool:
        return self.cost.macs >= self.limit

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)


@contextmanager
def mode_of(model: nn.Module, training: bool) -> Iterator[None]:
    """All modules in one mode inside, each in its own again after; flags alone, whatever ``train()`` does here."""
    before = {module: module.training for module in model.modules()}
    try:
        for module in before:
            module.training = training
        yield
    finally:
        for module, was in before.items():
            module.training = was


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers of torch by ``seed`` inside, and as they were after."""
    with torch.random.fork_rng([device] if device.type == 'cuda' else []):
        torch.manual_seed(seed)
        yield


def device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device('cpu'))
