"""Scores of channels and blocks of trained weights, by which pruning chooses what goes."""

from __future__ import annotations

import torch
from torch import Tensor

from ...mutables import DepthUnit
from ...mutators.scores import block_weights
from ...registry import unknown
from ...space import SearchSpace
from ..cost import averaged
from .structures import index_order, macs_of, untouched
from .task import Budget, Task, mode_of

IMPORTANCES = ('l1', 'l2', 'taylor', 'index')


def check_importance(name: str) -> str:
    if name not in IMPORTANCES:
        raise unknown('importance', name, IMPORTANCES)
    return name


def importance_of(name: str, space: SearchSpace, task: Task, budget: Budget, batches: int) -> Tensor:
    """(N,) ``'l1'`` or ``'l2'`` norms of weights, ``'taylor'`` of some batches, or ``'index'``: the first are kept."""
    check_importance(name)
    if name == 'taylor':
        return taylor_scores(space, task, budget, batches)
    return index_order(space) if name == 'index' else weight_scores(space, 1 if name == 'l1' else 2)


@torch.no_grad()
def weight_scores(space: SearchSpace, power: int) -> Tensor:
    """(N,) norms over all weights that go with an element: those that make it, those that read it, and its norms'.

    The L1 norm of a filter is of Li et al., "Pruning Filters for Efficient ConvNets" (ICLR 2017), section 3.1; that all
    tensors of a group count together, of Fang et al., "DepGraph" (CVPR 2023), section 3.3. A block's is of what
    carries its mask.
    """
    trace, ownership = space.plan.trace, space.plan.ownership
    parameters = dict(space.model.named_parameters())
    sums = torch.zeros_like(space.bank.importance, dtype=torch.float64)
    for name, dims in trace.params.items():
        for dim, ids in enumerate(dims):
            owner = ownership.owner(ids)
            if name not in parameters or not (owner >= 0).any():
                continue
            weight = parameters[name].detach().abs().double() ** power
            along = weight.movedim(dim, 0).reshape(len(ids), -1).sum(1)
            for column in owner.T:
                inside = torch.from_numpy(column >= 0)
                index = torch.from_numpy(column[column >= 0]).to(sums.device)
                sums.index_add_(0, index, along[inside.to(along.device)].to(sums.device))
    for unit in space.units.values():
        if isinstance(unit, DepthUnit):
            for k in range(unit.size):
                weights = block_weights(space.model, unit, k, parameters)
                sums[unit.start + k] = sum(float((p.detach().abs().double() ** power).sum()) for p in weights)
    return (sums ** (1 / power)).to(space.bank.importance)


def taylor_scores(space: SearchSpace, task: Task, budget: Budget, batches: int) -> Tensor:
    """(N,) mean over batches of ``(m g)^2`` of the whole supernet, ``g`` the loss's gradient by an element's mask.

    Molchanov et al., "Importance Estimation for Neural Network Pruning" (CVPR 2019), eq. 8 on gates (section 3.2); a
    mask of one is their gate. The model runs in eval mode.
    """
    bank = space.bank
    scores = torch.zeros_like(bank.importance)
    with untouched(space), mode_of(space.model, False):
        whole = torch.ones_like(bank.keep)
        bank.harden_all(whole)
        for batch in task.some('batches', batches):
            # The same gradients for the leaves alone: what weights have collected stays as it is.
            grad = bank.leaves.gradients(task.loss_of(space.model, batch))
            scores += averaged(grad).square() / batches
            budget.cost.add(macs_of(space, whole), task.samples(batch), backward=True)
    return scores


def normalised(space: SearchSpace, scores: Tensor) -> Tensor:
    """Scores over the mean of their unit, so that one threshold can hold for all of them."""
    parts = [part / part.mean().clamp_min(1e-30) for part in scores.double().split(space.bank.sizes)]
    return torch.cat(parts)
