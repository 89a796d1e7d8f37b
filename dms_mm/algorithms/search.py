"""The search: how task gradients and a budget move the pruning ratios (sections 3.1 to 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..registry import RULES, build, unknown
from ..slimming.structure import Structure
from ..space import SearchSpace
from ..topk.functional import SCORES
from .budget import fit_counts, parse_target


class Search:
    """Trains the ratios of a :class:`SearchSpace` beside any training loop.

    Call ``loss = task + search.resource_loss()``, ``loss.backward()``, step the weights, then :meth:`step`.

    Args:
        target: ``{'macs': 0.5}``; at most 1.0 is a share of the supernet, above it an absolute count per sample.
            Several entries are met together. Every registered resource may be named.
        total_steps: calls of :meth:`step` in the whole search.
        rule: how the ratios move: a registered name (``'balanced'``, ``'paper'``), or
            ``dict(type='BalancedRule', travel=1.5)``. Options beside those named here are the rule's, too.
        warmup: share of the steps that train weights and importance alone.
        ramp: share of the steps, after the warm-up, in which the target falls from supernet to budget (eq. 10).
        widths_only: share of the steps at the end in which the blocks' masks are hard.
        score: ``'taylor'``, ``'fisher'``, ``'snip'``, ``'index'`` or ``'l1'`` (table 6).
        decay: of the moving average of the score; 0 for the newest score alone.

    Attributes:
        rule: the :class:`~.rules.Rule`.
        targets: resource -> absolute target.

    Raises:
        ValueError: unknown rule, option or resource, or a target that no structure of the space reaches.
    """

    def __init__(
        self,
        space: SearchSpace,
        target: Mapping[str, float],
        total_steps: int,
        *,
        rule: str | Mapping[str, Any] = 'balanced',
        warmup: float = 0.1,
        ramp: float = 0.4,
        widths_only: float = 0.2,
        score: str = 'taylor',
        decay: float = 0.99,
        **options: Any,
    ) -> None:
        if score not in (*SCORES, 'index', 'l1'):
            raise unknown('score', score, [*SCORES, 'index', 'l1'])
        shares = dict(warmup=warmup, ramp=ramp, widths_only=widths_only, decay=decay)
        for name, value in shares.items():
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f'{name}={value!r} of the search must be a number from 0 to 1')
        if total_steps < 1:
            raise ValueError('total_steps must be at least 1')
        self.space, self.bank = space, space.bank
        self.targets = parse_target(space, target)
        self.total_steps = int(total_steps)
        self.score, self.decay = score, decay
        self.warmup, self.ramp, self.widths_only = warmup, ramp, widths_only
        self.rule = build(RULES, rule, self, what='rule', beside=[*shares, 'rule', 'score'], options=options)
        self.bank.ratio.grad = None
        self.bank.warm.fill_(self._warming())
        if score == 'index':
            order = torch.arange(len(self.bank.segment), device=self.bank.importance.device)
            self.bank.importance.copy_(-order)
        self.bank.refresh()

    # -- schedule
    @property
    def steps(self) -> int:
        """Calls of :meth:`step` so far; kept in the bank, so that it resumes with it."""
        return int(self.bank.steps)

    @property
    def progress(self) -> float:
        return self.steps / self.total_steps

    def _warming(self) -> bool:
        return self.warmup > 0 and self.progress <= self.warmup

    def goal(self, resource: str) -> float:
        """The scheduled target ``r_t`` (eq. 10) at the present step."""
        full, final = float(self.space.supernet[resource]), self.targets[resource]
        done = (self.progress - self.warmup) / self.ramp if self.ramp > 0 else float(self.progress >= self.warmup)
        return full * (final / full) ** min(max(done, 0.0), 1.0)

    @property
    def depth_is_hard(self) -> bool:
        return self.progress >= 1 - self.widths_only

    # -- losses
    def resource_loss(self) -> Tensor:
        """() ``weight * sum log(r_c / r_t)`` over the resources above their scheduled target, else 0.

        Differentiable in the ratios. :meth:`step` takes its gradient by itself, apart from the task's, so that loss
        scaling, accumulation and clipping don't reach the structure; what a backward pass leaves is dropped.
        """
        loss = torch.zeros((), dtype=torch.float64, device=self.bank.ratio.device)
        for name in self.targets:
            value = self.space.soft_resource(name)
            loss = loss + self.rule.weight * torch.log(value / self.goal(name)).clamp_min(0)
        return loss.to(self.bank.ratio.dtype)

    # -- a step
    def step(self, grad_scale: float = 1.0) -> None:
        """Update importances, ratios and masks from the gradients that the last backward passes left.

        ``grad_scale`` is the factor by which a gradient scaler multiplied the loss. A step whose gradients are not
        finite (a scaler's overflow) changes nothing but the schedule.
        """
        bank = self.bank
        grad = bank.take_grad() / grad_scale
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(grad)
            grad /= dist.get_world_size()
        if bool(torch.isfinite(grad).all()):
            if self.score in SCORES:
                bank.update_importance(grad, self.score, self.decay)
            elif self.score == 'l1':
                bank.importance.copy_(self.space.l1_scores())
            if self.progress >= self.warmup:
                self.rule.step(bank.ratio_grad(grad))
        bank.ratio.grad = None
        bank.steps += 1
        bank.warm.fill_(self._warming())
        if self.depth_is_hard:
            self._harden_depth()
        bank.refresh()

    @torch.no_grad()
    def _harden_depth(self) -> None:
        keep = self.bank.hard_keep()
        for unit in self.space.units.values():
            if unit.kind == 'depth' and not bool(self.bank.hardened[unit.index]):
                self.bank.harden(unit.index, keep[unit.start : unit.start + unit.size])

    # -- the end
    def finalize(self) -> Structure:
        """Harden every unit so that the target is met: never above, at most 1% below where the space allows."""
        keep = fit_counts(self.space, self.targets, low=self.rule.low)
        for unit in self.space.units.values():
            self.bank.harden(unit.index, keep[unit.start : unit.start + unit.size])
        return self.space.structure()

    # -- resume
    def state_dict(self) -> dict[str, Tensor]:
        """Everything that a resumed search needs beside the model's own state; tensors only."""
        return self.bank.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.bank.load_state_dict(dict(state))
