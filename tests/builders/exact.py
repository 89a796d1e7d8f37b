"""One invariant for any model: masked and slim compute the same, and what is counted is what runs (DESIGN 4)."""

import copy

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

import dms_mm
from dms_mm.slimming.trials import random_keep
from dms_mm.slimming.twins import NEAREST, counted, difference
from dms_mm.tracing import call_forward, first_batch, plain_outputs


def structures(space):
    """Name -> (N,) bool: everything at its least, every unit alone at its least, all blocks out, and random ones."""
    units = list(space.units.values())

    def least(chosen):
        keep = np.ones(sum(u.size for u in units), dtype=bool)
        for unit in chosen:
            keep[unit.start : unit.start + unit.size] = np.arange(unit.size) < unit.min_keep
        return keep

    found = {'whole': least([]), 'least': least(units)}
    found |= {f'only {u.name} at its least': least([u]) for u in units}
    for unit in units:
        for k in range(unit.size) if unit.kind == 'depth' and not unit.min_keep else []:
            keep = least([])
            keep[unit.start + k] = False
            found[f'without block {k} of {unit.name}'] = keep
    return found | {f'random {seed}': random_keep(units, seed, low=0.1) for seed in range(4)}


def _outputs(model, inputs, forward_fn):
    torch.manual_seed(0)
    with torch.no_grad():
        leaves = torch.utils._pytree.tree_flatten(plain_outputs(call_forward(model, inputs, forward_fn)))[0]
    return [x.double() for x in leaves if isinstance(x, torch.Tensor) and x.is_floating_point()]


def check_exact(model, inputs, forward_fn=None, bound=1e-9, **options):
    """Make a model searchable, compare masked and slim in float64 in both modes, count; returns the space."""
    space = dms_mm.make_searchable(model, inputs, forward_fn=forward_fn, **options)
    assert space.units
    with torch.no_grad():
        for p in space.model.parameters():
            # Zero biases and unit gains would hide mistakes.
            if p.is_floating_point() and (p.ndim < 2 or not p.any()):
                p.copy_(torch.rand(p.shape, generator=torch.Generator().manual_seed(p.numel())) + 0.5)
    for module in space.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, 'running_var', None), torch.Tensor):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    space.model.double()
    space.bank.double()

    def double(x):
        return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    inputs = tree_map(double, inputs)
    batch = first_batch(inputs)
    for name, keep in structures(space).items():
        space.set_keep({u.name: torch.from_numpy(keep[u.start : u.start + u.size]) for u in space.units.values()})
        slim = space.slim()
        counts = space.resources()
        assert counts['params'] == sum(p.numel() for p in slim.parameters()), f'parameters, {name}'
        for training in (False, True):
            masked, small = copy.deepcopy(space).model, copy.deepcopy(slim)
            for m in (masked, small):
                m.train(training)
            want = _outputs(masked, inputs, forward_fn)
            with counted() as counter:
                have = _outputs(small, inputs, forward_fn)
            assert difference(want, have) < bound, f'{name}, training={training}'
            # What data decide goes another way with other weights.
            if not training and not space.plan.trace.decisions:
                assert abs(counter.get_total_flops() / 2 / batch - counts['macs']) < NEAREST, f'MACs, {name}'
    return space
