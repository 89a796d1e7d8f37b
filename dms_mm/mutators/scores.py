"""Importances that need no gradient."""

from __future__ import annotations

from collections.abc import Sequence

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
            for k, block in enumerate(unit.blocks):
                ends = list(unit.carriers[k].values())
                carry = [parameters[name] for names in ends for name in names]
                if not all(ends):
                    carry = list(model.get_submodule(block).parameters())
                scores[unit.start + k] = sum(p.abs().sum() for p in carry)
    return scores
