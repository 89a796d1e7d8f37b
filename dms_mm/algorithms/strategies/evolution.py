"""Evolution and random search over the structures of a space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...progress import PATIENCE, Progress
from ...registry import JUDGES, STRATEGIES, build
from ...space import SearchSpace
from ..budget import parse_target
from ..cost import averaged, from_first, is_first
from .importance import check_importance, importance_of
from .judges import Judge
from .strategy import Strategy
from .structures import drawn, fitted, shares_of, uniform_structures
from .task import Budget, Task


class Population:
    """Structures that were tried, best first, and what is needed to make more of them.

    Attributes:
        keep: (P, N) bool.
        scores: (P,) float64.
        history: (G, 2) the best and the mean score of the structures that each generation tried.
        generator: on the CPU, the same on all processes.
    """

    def __init__(
        self,
        space: SearchSpace,
        targets: Mapping[str, float],
        task: Task,
        budget: Budget,
        judge: Judge,
        order: Tensor,
        most: int,
    ) -> None:
        self.space, self.targets, self.task, self.budget = space, targets, task, budget
        self.judge, self.order, self.most = judge, order, most
        self.keep = torch.zeros(0, len(order), dtype=torch.bool)
        self.scores = torch.zeros(0, dtype=torch.float64)
        self.history = torch.zeros(0, 2, dtype=torch.float64)
        self.generator = budget.generator()
        self.progress = Progress(f'{type(judge).__name__} on structures', most, PATIENCE if is_first() else math.inf)

    def knows(self, keep: Tensor) -> bool:
        return bool((self.keep == keep.cpu()).all(1).any())

    def full(self, more: int = 0) -> bool:
        """Whether no structure may be tried after ``more`` that are not counted yet: one is, whatever the budget."""
        known = len(self.scores) + more
        return known >= self.most or (known > 0 and self.budget.spent())

    def try_all(self, structures: list[Tensor]) -> None:
        """Score structures, as far as they may be tried, as one generation."""
        scores: list[Tensor] = []
        for keep in structures:
            if self.full(len(scores)):
                break
            score = self.judge.score(self.space, keep, self.task, self.budget)
            scores.append(averaged(torch.tensor(score, dtype=torch.float64, device=keep.device)).cpu())
            self.progress.step(score=float(scores[-1]))
        if not scores:
            return
        new = torch.stack(scores).nan_to_num(nan=-torch.inf)
        keep = torch.cat([self.keep, torch.stack(structures[: len(new)]).cpu()])
        self.scores, order = torch.cat([self.scores, new]).sort(descending=True, stable=True)
        self.keep = keep[order]
        self.history = torch.cat([self.history, torch.stack([new.max(), new.mean()])[None]])
        self.budget.log(
            f'generation {len(self.history)}: {len(self.scores)} structures tried, best {self.scores[0]:.6g}, '
            f'mean of this generation {new.mean():.6g}; {self.budget.cost}'
        )

    def best(self) -> Tensor:
        return from_first(self.keep[0].to(self.space.bank.keep.device))

    def state(self) -> dict[str, Any]:
        return dict(
            keep=self.keep, scores=self.scores, history=self.history, order=self.order.cpu(),
            generator=self.generator.get_state(), cost=self.budget.cost.as_dict(),
        )  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        self.keep, self.scores, self.history = state['keep'], state['scores'], state['history']
        self.order = state['order'].to(self.order)
        self.progress.done = len(self.scores)
        self.generator.set_state(state['generator'])


@STRATEGIES.register_module()
class Evolution(Strategy):
    """The fittest structures, their mutations and their crossings, generation after generation.

    Every structure, a child too, is scaled to just meet the target, so that all are compared at equal cost.

    Args:
        judge: what says how good a structure is: ``'SupernetJudge'``, ``'ZiCo'``, ``'ZenScore'``, or
            ``dict(type=..., option=...)``.
        population: structures of a generation; the first are drawn, each width log-normal, each depth uniform.
        evaluations: structures that are tried in all, unless the budget ends before.
        parents: the best of all structures so far, from which children are made.
        crossing: part of the children that take every unit from one of two parents; the others are mutations of one.
        mutate: chance of a unit to change in a mutation: a width by a log-normal factor, a stage by one of its blocks.
        sigma: spread of the logarithm of widths, of the first generation and of mutations.
        uniform: whether uniform scaling, of widths and of widths and depths, is in the first generation.
        order: which elements of a width are kept: ``'l1'``, ``'l2'``, ``'taylor'`` or ``'index'``.
        batches: for ``order='taylor'``.
    """

    def __init__(
        self,
        judge: str | Mapping[str, Any] | Judge = 'SupernetJudge',
        population: int = 32,
        evaluations: int = 256,
        parents: int = 8,
        crossing: float = 0.5,
        mutate: float = 0.2,
        sigma: float = 0.4,
        uniform: bool = True,
        order: str = 'l1',
        batches: int = 8,
    ) -> None:
        if not 1 <= parents <= population <= evaluations:
            raise ValueError(
                f'1 <= parents ({parents}) <= population ({population}) <= evaluations ({evaluations}) must hold'
            )
        self.judge = judge if isinstance(judge, Judge) else build(JUDGES, judge, what='judge')
        self.population, self.evaluations, self.parents = population, evaluations, parents
        self.crossing, self.mutate, self.sigma = crossing, mutate, sigma
        self.uniform, self.order, self.batches = uniform, check_importance(order), batches

    def needs(self) -> tuple[int, int]:
        batches, held_out = self.judge.needs()
        return max(batches, self.batches if self.order == 'taylor' else 0), held_out

    def search(
        self, space: SearchSpace, target: Mapping[str, float], task: Task | None = None, budget: Budget | None = None
    ) -> Tensor:
        targets = parse_target(space, target)
        task, budget = task or Task(), budget or Budget()
        order = torch.zeros_like(space.bank.importance)
        if budget.state is None:
            order = importance_of(self.order, space, task, budget, self.batches)
        tried = Population(space, targets, task, budget, self.judge, order, self.evaluations)
        if budget.state is not None:
            tried.load(budget.state)
        with tried.progress:
            while not tried.full():
                before = len(tried.scores)
                tried.try_all(self.children(tried) if before else self.first(tried, target))
                if len(tried.scores) == before:
                    break  # a space so small that all of it is known
                budget.save(tried.state())
        return tried.best()

    def first(self, tried: Population, target: Mapping[str, float]) -> list[Tensor]:
        found = uniform_structures(tried.space, target, tried.order) if self.uniform else []
        found = found[: self.population]
        while len(found) < self.population:
            found.append(drawn(tried.space, tried.targets, tried.generator, self.sigma, tried.order))
        return found

    def children(self, tried: Population) -> list[Tensor]:
        """New structures; fewer where chance finds none that were not tried."""
        found: list[Tensor] = []
        for _ in range(10 * self.population):
            if len(found) == self.population:
                break
            child = self.child(tried)
            if not tried.knows(child) and not any(torch.equal(child, other) for other in found):
                found.append(child)
        return found

    def child(self, tried: Population) -> Tensor:
        generator, bank = tried.generator, tried.space.bank
        count = min(self.parents, len(tried.scores))
        parents = [int(torch.randint(count, (), generator=generator)) for _ in range(2)]
        a, b = tried.keep[parents].to(bank.keep.device)
        chance = torch.rand(len(bank.sizes), generator=generator).to(bank.keep.device)
        noise = torch.randn(len(bank.sizes), generator=generator, dtype=torch.float64).to(bank.keep.device)
        place = torch.rand(len(bank.sizes), generator=generator).tolist()
        if float(torch.rand((), generator=generator)) < self.crossing:
            keep = torch.where(bank.spread(chance < 0.5), a, b)
            shares = [shares_of(tried.space, tried.targets, x) for x in (a, b)]
            share = torch.where(chance < 0.5, shares[0], shares[1])
            return fitted(tried.space, tried.targets, tried.order, share, keep)
        changed, share = chance < self.mutate, shares_of(tried.space, tried.targets, a)
        share = torch.where(changed, share * torch.exp(self.sigma * noise), share)
        blocks = a.clone()
        for unit in tried.space.units.values():
            if unit.kind == 'depth' and bool(changed[unit.index]):
                k = unit.start + int(place[unit.index] * unit.size)
                blocks[k] = ~blocks[k]
        return fitted(tried.space, tried.targets, tried.order, share, blocks)


@STRATEGIES.register_module()
class RandomSearch(Evolution):
    """The best of ``evaluations`` random structures; the other options are those of :class:`Evolution`."""

    def __init__(
        self,
        judge: str | Mapping[str, Any] | Judge = 'SupernetJudge',
        evaluations: int = 256,
        sigma: float = 0.4,
        uniform: bool = False,
        order: str = 'l1',
        batches: int = 8,
    ) -> None:
        population = min(32, evaluations)
        super().__init__(
            judge, population, evaluations, parents=1, sigma=sigma, uniform=uniform, order=order, batches=batches
        )

    def children(self, tried: Population) -> list[Tensor]:
        return [
            drawn(tried.space, tried.targets, tried.generator, self.sigma, tried.order) for _ in range(self.population)
        ]
