"""ZiCo: structures judged by the gradients of a fresh network (Li et al., ICLR 2023, arXiv 2301.11300)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...registry import JUDGES
from ...space import SearchSpace
from .judges import Judge, initialise
from .structures import macs_of, slim_of
from .task import Budget, Task, device_of, mode_of, seeded


@JUDGES.register_module()
class ZiCo(Judge):
    """``sum_l log( sum_w E|g_w| / sqrt(Var|g_w|) )`` over the weights w of every layer l, moments over batches.

    The definition of ZiCo in the paper's section 3; gradients of convolutions and linear layers at initialisation, in
    training mode. Weights whose gradient is the same in all batches are left out, for there the quotient is none.

    Args:
        batches: two in the paper.
        fresh: whether layers are initialised anew, as in the paper, or judged with the weights that the supernet has.
    """

    def __init__(self, batches: int = 2, fresh: bool = True) -> None:
        if batches < 2:
            raise ValueError(f'ZiCo needs the variance over at least 2 batches, not {batches}')
        self.batches, self.fresh = batches, fresh

    def needs(self) -> tuple[int, int]:
        return self.batches, 0

    def score(self, space: SearchSpace, keep: Tensor, task: Task, budget: Budget) -> float:
        model, macs = slim_of(space, keep), macs_of(space, keep)
        if self.fresh:
            initialise(model, budget.seed)
        layers = layers_of(space)
        weights = [p.requires_grad_() for name, p in model.named_parameters() if name in layers and p.ndim > 1]
        first = [torch.zeros_like(w) for w in weights]
        batches = task.some('batches', self.batches)
        magnitudes = []
        with mode_of(model, True), seeded(budget.seed, device_of(model)):
            for batch in batches:
                found = torch.autograd.grad(task.loss_of(model, batch), weights, allow_unused=True)
                magnitudes.append([f if g is None else g.abs() for g, f in zip(found, first)])
                budget.cost.add(macs, task.samples(batch), backward=True)
        return sum(layer_score(torch.stack(layer)) for layer in zip(*magnitudes))


def layers_of(space: SearchSpace) -> set[str]:
    """Weights of convolutions and linear layers, of whatever class: not norms' and not what is only added."""
    trace = space.plan.trace
    return {name for name, _ in (*trace.consumers, *trace.producers)} | set(trace.grouped)


def layer_score(magnitudes: Tensor) -> float:
    """A layer's summand; ``magnitudes`` (batches, ...) of its gradients. 0 for a layer that nothing varies of."""
    deviation, mean = torch.std_mean(magnitudes.double(), 0, correction=0)
    varies = deviation > 0
    quotients = (mean[varies] / deviation[varies]).sum()
    return math.log(float(quotients)) if quotients > 0 and torch.isfinite(quotients) else 0.0
