"""Numerical self-check: hard masks on the supernet against the slim model (DESIGN 4.1)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..topk import TopkBank
from ..tracing import IntArray
from .plan import Plan
from .trials import random_keep
from .twins import Twins, outputs_of
from .twins import difference as relative_difference

__all__ = ['outputs_of', 'relative_difference', 'verify_equivalence']


class Space(Protocol):
    """What of a search space is looked at."""

    model: nn.Module
    plan: Plan
    bank: TopkBank

    def slim(self) -> nn.Module: ...


class _OfSpace(Twins):
    """The masks that a search space has on its model, and the slim models that it gives, at its own weights."""

    def __init__(self, space: Space, inputs: Any, forward_fn: Callable[..., Any] | None) -> None:
        self.space = copy.deepcopy(space)
        super().__init__(self.space.model, space.plan, inputs, forward_fn, bank=self.space.bank)
        if self.bound > 1e-5:
            self.bound = 1e-4  # these weights are no random ones

    def masked(self, keep: IntArray) -> nn.Module:
        self.bank.harden_all(torch.from_numpy(keep).to(self.device))
        return self.model

    def slim(self, keep: IntArray) -> nn.Module:
        self.bank.harden_all(torch.from_numpy(keep).to(self.device))
        return self.space.slim()


def verify_equivalence(space: Space, inputs: Any, forward_fn: Callable[..., Any] | None = None, seed: int = 0) -> float:
    """Compare a random structure in float64 on random inputs; the space is left as it was.

    Returns the relative difference. Where data decide, the slim model makes the choices of the masked one.

    Raises:
        ChoiceError: they are not its own, up to rounding.
        RuntimeError: no output is finite, or the difference exceeds 1e-8 (1e-5 if a norm computes in float32 inside,
            1e-4 if the model can't run in float64); the message names the unit at fault.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        return torch.randn(x.shape, generator=generator, dtype=torch.float64)

    twins = _OfSpace(space, tree_map(noise, inputs), forward_fn)
    if not any(bool(x.isfinite().any()) for x in twins.plain):
        raise RuntimeError('no output of the model is a finite number on random inputs: there is nothing to compare')
    units = space.plan.units
    whole = random_keep(units, seed)

    def difference(names: set[str]) -> float:
        keep = whole.copy()
        for unit in units:
            keep[unit.start : unit.start + unit.size] |= unit.name not in names
        want, noted = twins.of_masked(keep, training=False)
        return relative_difference(want, twins.of_slim(twins.slim(keep), False, noted))

    worst = difference({u.name for u in units})
    if worst > twins.bound:
        culprit = next((u.name for u in units if difference({u.name}) > twins.bound), 'a combination of units')
        raise RuntimeError(
            f'the slim model differs from the masked supernet by {worst:.1e}: {culprit}. '
            'Put it into `ignore` or `units={name: dict(ignore=True)}` and report the model.'
        )
    return worst
