"""Pruning trained weights by a score: uniform ratios, one threshold over all units, or blocks alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...registry import STRATEGIES, unknown
from ...space import SearchSpace
from ..budget import parse_target, uniform_keep
from .importance import check_importance, importance_of, normalised
from .strategy import Strategy
from .structures import counts_of, depth_units, fitted, ranked
from .task import Budget, Task

RATIOS = ('uniform', 'global', 'depth')


@STRATEGIES.register_module()
class Pruning(Strategy):
    """Keeps what scores highest.

    Args:
        importance: ``'l1'`` or ``'l2'`` norms of weights, ``'taylor'``, or ``'index'``.
        ratios: ``'uniform'``: every width by one factor; ``'global'``: one threshold for the scores of all units, each
            over the mean of its unit; ``'depth'``: the blocks of the lowest scores go, over the mean of their stage.
            The last one that would leave less than the target stays, and all widths by one factor meet it.
        depth: whether blocks take part in uniform and global ratios; else they stay.
        batches: for ``'taylor'``.
    """

    def __init__(self, importance: str = 'l1', ratios: str = 'uniform', depth: bool = False, batches: int = 8) -> None:
        if ratios not in RATIOS:
            raise unknown('ratios', ratios, RATIOS, plural='ratios')
        self.importance, self.ratios = check_importance(importance), ratios
        self.depth, self.batches = depth, batches

    def needs(self) -> tuple[int, int]:
        return self.batches if self.importance == 'taylor' else 0, 0

    def search(
        self, space: SearchSpace, target: Mapping[str, float], task: Task | None = None, budget: Budget | None = None
    ) -> Tensor:
        targets = parse_target(space, target)
        scores = importance_of(self.importance, space, task or Task(), budget or Budget(), self.batches)
        if self.ratios == 'uniform' and self.depth:
            with ranked(space, scores):
                return uniform_keep(space, target, scale_depth=True)
        if self.ratios == 'depth':
            return depth_alone(space, targets, scores)
        share = torch.ones(len(space.units), dtype=torch.float64, device=scores.device)
        if self.ratios == 'global':
            share = threshold_shares(space, targets, normalised(space, scores), self.depth)
        return fitted(space, targets, scores, share)


def fits(space: SearchSpace, targets: Mapping[str, float], keep: Tensor) -> bool:
    return all(space.counters[name].count(keep, space.bank) <= target for name, target in targets.items())


@torch.no_grad()
def threshold_shares(space: SearchSpace, targets: Mapping[str, float], scores: Tensor, blocks: bool) -> Tensor:
    """(U,) parts of the units above the lowest threshold within the targets; without ``blocks`` these all stay."""
    bank, depth = space.bank, depth_units(space)
    whole = torch.zeros_like(depth) if blocks else depth
    steps = torch.cat([scores.unique(), scores.new_tensor([torch.inf])])

    def counts(threshold: Tensor) -> Tensor:
        above = torch.maximum(counts_of(space, scores >= threshold), bank.min_keep)
        return torch.where(whole, bank.size, above)

    low, high = 0, len(steps) - 1
    with ranked(space, scores.to(bank.importance)):
        while low < high:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if fits(space, targets, bank.hard_keep(counts(steps[middle]))) else (middle + 1, high)
            )
    return counts(steps[low]) / bank.size


@torch.no_grad()
def depth_alone(space: SearchSpace, targets: Mapping[str, float], scores: Tensor) -> Tensor:
    """(N,) bool: without the blocks of the lowest scores, all but the one that would leave less than the targets."""
    bank = space.bank
    share = torch.ones(len(space.units), dtype=torch.float64, device=scores.device)
    keep, left = torch.ones_like(bank.keep), bank.size.clone()
    relative = normalised(space, scores)
    relative[~bank.spread(depth_units(space))] = torch.inf
    for element in torch.argsort(relative, stable=True).tolist():
        unit = int(bank.segment[element])
        if not bool(torch.isfinite(relative[element])):
            break
        if left[unit] <= bank.min_keep[unit] or bool(bank.hardened[unit]):
            continue
        keep[element] = False
        if fits(space, targets, keep):
            keep[element] = True
            break
        left[unit] -= 1
    return fitted(space, targets, scores, share, keep)
