"""What says how good a structure is, higher for better: the supernet's own weights. Proxies are files of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...registry import JUDGES
from ...space import SearchSpace
from .structures import macs_of, slim_of
from .task import Budget, Task, device_of, mode_of, seeded


class Judge:
    """One's own gives :meth:`score`; it is registered in :data:`dms_mm.registry.JUDGES`."""

    def needs(self) -> tuple[int, int]:
        """How many training batches and how many held-out ones it looks at."""
        return 0, 0

    def score(self, space: SearchSpace, keep: Tensor, task: Task, budget: Budget) -> float:
        """How good the structure ``keep`` (N,) is; what it runs counts in ``budget.cost``."""
        raise NotImplementedError


@JUDGES.register_module()
class SupernetJudge(Judge):
    """The value of held-out batches by the weights that the supernet has, batch norms recalibrated.

    As one-shot searches do: Guo et al., "Single Path One-Shot Neural Architecture Search" (ECCV 2020), section 3.4;
    Cai et al., "Once-for-All" (ICLR 2020).

    Args:
        recalibrate: training batches from which every batch norm takes its statistics anew.
        batches: held-out ones that are looked at.
    """

    def __init__(self, recalibrate: int = 4, batches: int = 4) -> None:
        self.recalibrate, self.batches = recalibrate, batches

    def needs(self) -> tuple[int, int]:
        return self.recalibrate, self.batches

    def score(self, space: SearchSpace, keep: Tensor, task: Task, budget: Budget) -> float:
        model, macs = slim_of(space, keep), macs_of(space, keep)
        if any(isinstance(m, _BatchNorm) and m.track_running_stats for m in model.modules()):
            used = task.some('batches', self.recalibrate)
            recalibrate(model, task, used)
            budget.cost.add(macs, sum(map(task.samples, used)))
        batches = task.some('held_out', self.batches)
        total = count = 0.0
        with torch.no_grad(), mode_of(model, False):
            for batch in batches:
                samples = task.samples(batch)
                total, count = total + samples * task.value_of(model, batch), count + samples
                budget.cost.add(macs, samples)
        return total / count


@torch.no_grad()
def recalibrate(model: nn.Module, task: Task, batches: object) -> None:
    """Statistics of batch norms as the mean over ``batches``, of a model in eval mode otherwise."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momentum = [norm.momentum for norm in norms]
    with mode_of(model, False):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True
        for batch in batches:  # type: ignore[attr-defined]
            task.loss_of(model, batch)
    for norm, value in zip(norms, momentum):
        norm.momentum = value


@torch.no_grad()
def initialise(model: nn.Module, seed: int) -> None:
    """Every layer as PyTorch makes it; what belongs to no layer (tokens, positions) stays."""
    with seeded(seed, device_of(model)):
        for module in model.modules():
            reset = getattr(module, 'reset_parameters', None)
            if callable(reset):
                reset()
