"""Branches that start at nothing, opened while a search trains from scratch.

Residual branches are often started at zero: the last norm's gain (``zero_init_last``, ``zero_init_residual``), a layer
scale of 1e-6, a gate of ReZero, a last convolution of zeros. Until training has opened them no gradient reaches the
widths inside, and a short search takes the budget from them. The weights of a search from scratch are thrown away, so
it may start with open branches; trained weights are left as they are.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..mutators.stores import raw_parameters, stored
from ..slimming.chance import without_chance
from ..slimming.twins import random_inputs
from ..space import SearchSpace
from ..tracing.running import Forward, call_forward, plain_outputs

SMALL = 1e-2  # a constant at most as large may be a gate: layer scales start at 1e-6 to 1e-2
CLOSED = 1e-3  # of the gradient that a unit has with all gates open


def open_branches(space: SearchSpace, example_inputs: Any, forward_fn: Forward | None = None) -> list[str]:
    """Set gates that start at nothing to one, and weights of zeros to random ones, in place.

    A gate is found by what is computed: without it the masks of some unit get no gradient, with it they do. Its
    parameter is one constant of at most 0.01.

    Args:
        example_inputs, forward_fn: as for :func:`dms_mm.make_searchable`; one forward and backward of them for every
            parameter that may be a gate, if any unit is closed.

    Returns:
        Names of the parameters that were changed, empty where every unit gets a gradient as it is.
    """
    names = _candidates(space.model)
    if not names:
        return []
    twin = copy.deepcopy(space)
    inputs = random_inputs(example_inputs, twin.model)
    before = _flow(twin, inputs, forward_fn)
    closed = {name: _parameter(twin.model, name).detach().clone() for name in names}
    for name in names:
        _open(twin.model, name)
    opened = _flow(twin, inputs, forward_fn)
    if not bool((before < CLOSED * opened).any()):
        return []
    gates = []
    for name in names:
        p = _parameter(twin.model, name)
        value = p.detach().clone()
        with torch.no_grad():
            p.copy_(closed[name])
        alone = _flow(twin, inputs, forward_fn)
        with torch.no_grad():
            p.copy_(value)
        if bool((alone < CLOSED * opened).any()):
            gates.append(name)
    with torch.no_grad():
        for name in gates:
            _parameter(space.model, name).copy_(_parameter(twin.model, name))
    return gates


def _candidates(model: nn.Module) -> list[str]:
    """Trainable parameters of one small constant, but for the biases of affine layers."""
    found = []
    for path, module in model.named_modules():
        own = dict(module._parameters.items())  # as they are stored, without masks
        for key, p in own.items():
            if p is None or not p.requires_grad or not p.is_floating_point() or not p.numel():
                continue
            if key.endswith('bias') and own.get(key.removesuffix('bias') + 'weight') is not None:
                continue
            first = p.detach().reshape(-1)[0]
            if float(first.abs()) <= SMALL and bool((p.detach() == first).all()):
                found.append(f'{path}.{key}' if path else key)
    return found


def _flow(space: SearchSpace, inputs: Any, forward_fn: Forward | None) -> Tensor:
    """(U,) sums of the magnitudes of what reaches the masks of each unit from a random direction of the outputs."""
    space.model.train()
    with without_chance():
        outputs = plain_outputs(call_forward(space.model, inputs, forward_fn))
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=torch.float64)
    for x in tree_flatten(outputs)[0]:
        if isinstance(x, Tensor) and x.is_floating_point() and x.requires_grad:
            direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            loss = loss + (x.double().cpu() * direction).sum()
    if not loss.requires_grad:
        return torch.zeros(len(space.units), dtype=torch.float64)
    grads = space.bank.leaves.gradients(loss).double().cpu().split(space.bank.sizes)
    return torch.stack([g.abs().sum() for g in grads])


def _parameter(model: nn.Module, name: str) -> Tensor:
    path, _, key = name.rpartition('.')
    return stored(model.get_submodule(path), key)  # type: ignore[no-any-return]


@torch.no_grad()
def _open(model: nn.Module, name: str) -> None:
    """One for vectors and numbers; for weights what their layer starts with, or random ones of its fan-in."""
    p = _parameter(model, name)
    if p.numel() == max(p.shape, default=1):
        p.fill_(1)
        return
    path, _, key = name.rpartition('.')
    layer = model.get_submodule(path)
    others = {k: x.detach().clone() for k, x in layer._parameters.items() if x is not None and k != key}
    with raw_parameters(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if hasattr(layer, 'reset_parameters'):
            layer.reset_parameters()
        if bool((p == p.reshape(-1)[0]).all()):
            nn.init.kaiming_uniform_(p, a=5**0.5)
    for k, x in others.items():
        _parameter(model, f'{path}.{k}' if path else k).copy_(x)
