"""Importances that need no gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..mutables import DepthUnit, MutableUnit, Ownership
from ..topk import TopkBank
from ..tracing import Trace


@torch.no_grad()
def l1_scores(
    model: nn.Module, trace: Trace, ownership: Ownership, units: Sequence[MutableUnit], bank: TopkBank
) -> Tensor:
    """(N,) L1 norms of the weights that produce each element (table 6), on the bank's device and of its dtype.

    A block's score is the L1 norm of what carries its mask, or of all its weights where nothing affine does.
    """
    parameters = dict(model.named_parameters())
    scores = torch.zeros_like(bank.importance)
    for name, dim in trace.producers:
        owner = ownership.owner(trace.params[name][dim])
        if name not in parameters or not (owner >= 0).any():
            continue  # a buffer is made, not learnt: rotary frequencies, for one
        weight = parameters[name].detach().abs()
        norms = weight.sum([d for d in range(weight.ndim) if d != dim]).to(scores.dtype)
        for column in owner.T:
            inside = torch.from_numpy(column >= 0)
            index = torch.from_numpy(column[column >= 0]).to(scores.device)
            scores.index_add_(0, index, norms[inside.to(norms.device)])
    for unit in units:
        if isinstance(unit, DepthUnit):
            for k in range(unit.size):
                scores[unit.start + k] = sum(p.abs().sum() for p in block_weights(model, unit, k, parameters))
    return scores


def block_weights(
    model: nn.Module, unit: DepthUnit, k: int, parameters: Mapping[str, nn.Parameter]
) -> list[nn.Parameter]:
    """What carries the mask of a unit's block ``k``, or all of its weights where nothing affine does."""
    ends = list(unit.carriers[k].values())
    if not all(ends):
        return list(model.get_submodule(unit.blocks[k]).parameters())
    return [parameters[name] for names in ends for name in names]
