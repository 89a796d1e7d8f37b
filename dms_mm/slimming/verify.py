"""Numerical self-check: hard masks on the supernet against the slim model (DESIGN 4.1)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..topk import TopkBank
from .plan import Plan
from .trials import random_keep
from .twins import difference as relative_difference
from .twins import outputs_of


class Space(Protocol):
    """What of a search space is looked at."""

    model: nn.Module
    plan: Plan
    bank: TopkBank

    def slim(self) -> nn.Module: ...


def verify_equivalence(space: Space, inputs: Any, forward_fn: Callable[..., Any] | None = None, seed: int = 0) -> float:
    """Compare a random structure in float64 on random inputs; the space is left as it was.

    Returns the relative difference.

    Raises:
        RuntimeError: it exceeds 1e-8 (1e-5 if a norm computes in float32 inside, 1e-4 if the model can't run in
            float64); the message names the unit at fault.
    """
    device = space.bank.keep.device
    double = copy.deepcopy(space)
    double.model.double()
    double.model.eval()
    double.bank.double()
    generator = torch.Generator().manual_seed(seed)

    def noise(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        return torch.randn(x.shape, generator=generator, dtype=torch.float64).to(device)

    data = tree_map(noise, inputs)
    units = space.plan.units

    def difference(names: set[str]) -> float:
        keep = torch.from_numpy(random_keep(units, seed)).to(device)
        for unit in units:
            part = keep[unit.start : unit.start + unit.size]
            double.bank.harden(unit.index, part if unit.name in names else torch.ones_like(part))
        slim = double.slim()
        slim.eval()
        return relative_difference(outputs_of(double.model, data, forward_fn), outputs_of(slim, data, forward_fn))

    # A norm that rounds to float32 inside limits what can be seen.
    bound = 1e-5 if space.plan.single else 1e-8
    try:
        outputs_of(double.model, data, forward_fn)
    except RuntimeError:
        # Tensors of a type of the model's own, kernels without float64: what can be seen is limited by float32.
        double.model.float()
        double.bank.float()
        data, bound = (
            tree_map(lambda x: x.float() if isinstance(x, Tensor) and x.is_floating_point() else x, data),
            1e-4,
        )
    worst = difference({u.name for u in units})
    if worst > bound:
        culprit = next((u.name for u in units if difference({u.name}) > bound), 'a combination of units')
        raise RuntimeError(
            f'the slim model differs from the masked supernet by {worst:.1e}: {culprit}. '
            'Put it into `ignore` or `units={name: dict(ignore=True)}` and report the model.'
        )
    return worst
