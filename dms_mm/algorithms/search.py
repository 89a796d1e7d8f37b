"""The search: how task gradients and a budget move the pruning ratios (sections 3.1 to 3.3)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from ..slimming.structure import Structure
from ..space import SearchSpace
from ..topk.functional import SCORES
from .budget import fit_counts, floor_counts, parse_target

RULES = ('balanced', 'paper')


class Search:
    """Trains the ratios of a :class:`SearchSpace` beside any training loop.

    Call ``loss = task + search.resource_loss()``, ``loss.backward()``, step the weights, then :meth:`step`.

    Rules:
        ``'balanced'``: with ``theta = -log(1 - a)`` every unit's smoothed task gradient is divided by the share of the
        resource that the unit takes part in, centred, scaled to unit spread and followed along the budget's surface;
        a common shift of all ``theta`` (uniform scaling) then lands on the scheduled target exactly. Needs no
        multiplier and no learning rate of its own: ``travel`` bounds the way that a width can go, in nats.

        ``'paper'``: ``weight * log(r_c / r_t)`` while over the target, plain SGD on the ratios with rate ``lr``.

    Args:
        target: ``{'macs': 0.5}``; at most 1.0 is a share of the supernet, above it an absolute count per sample.
            Several entries are met together.
        total_steps: calls of :meth:`step` in the whole search.
        floor: share of every width that the balanced rule keeps, so that no layer is strangled; given up where the
            target needs less.
        warmup: share of the steps that train weights and importance alone.
        ramp: share of the steps, after the warm-up, in which the target falls from supernet to budget (eq. 10).
        widths_only: share of the steps at the end in which the blocks' masks are hard.
        score: ``'taylor'``, ``'fisher'``, ``'snip'``, ``'index'`` or ``'l1'`` (table 6).
        decay: of the moving average of the score; 0 for the newest score alone.

    Raises:
        ValueError: unknown rule or resource, or a target that no structure of the space reaches.
    """

    def __init__(
        self,
        space: SearchSpace,
        target: Mapping[str, float],
        total_steps: int,
        *,
        rule: str = 'balanced',
        warmup: float = 0.1,
        ramp: float = 0.4,
        widths_only: float = 0.2,
        travel: float = 1.5,
        momentum: float = 0.98,
        clip: float = 2.0,
        floor: float = 0.05,
        lr: float = 0.01,
        weight: float = 1.0,
        score: str = 'taylor',
        decay: float = 0.99,
    ) -> None:
        if rule not in RULES:
            raise ValueError(f'unknown rule {rule!r}; rules are: {", ".join(RULES)}')
        if score not in (*SCORES, 'index', 'l1'):
            raise ValueError(f'unknown score {score!r}; scores are: {", ".join(SCORES)}, index, l1')
        if total_steps < 1:
            raise ValueError('total_steps must be at least 1')
        self.space, self.bank = space, space.bank
        self.targets = parse_target(space, target)
        self.total_steps = int(total_steps)
        self.rule, self.score, self.decay = rule, score, decay
        self.warmup, self.ramp, self.widths_only = warmup, ramp, widths_only
        self.travel, self.momentum, self.clip = travel, momentum, clip
        self.low = floor_counts(space, self.targets, floor if rule == 'balanced' else 0.0)
        self.lr, self.weight = lr, weight
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
            loss = loss + self.weight * torch.log(value / self.goal(name)).clamp_min(0)
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
                (self._paper if self.rule == 'paper' else self._balanced)(bank.ratio_grad(grad))
        bank.ratio.grad = None
        bank.steps += 1
        bank.warm.fill_(self._warming())
        if self.depth_is_hard:
            self._harden_depth()
        bank.refresh()

    def _paper(self, task: Tensor) -> None:
        with torch.enable_grad():
            loss = self.resource_loss()
        (resource,) = torch.autograd.grad(loss, self.bank.ratio)
        with torch.no_grad():
            move = self.lr * (task + resource)
            self.bank.ratio.sub_(torch.where(self.bank.hardened, torch.zeros_like(move), move))
            self.bank.clamp()

    def _log_gradient(self) -> tuple[Tensor, Tensor, float]:
        """Shares ``-d log(r)/d theta`` (U,) of the binding resource, its continuous value's gap to the goal in logs."""
        worst: tuple[Tensor, float] | None = None
        for name in self.targets:
            ratio = self.bank.ratio.detach().double().requires_grad_()
            value = self.space.counters[name].continuous(self.bank, ratio)
            (grad,) = torch.autograd.grad(torch.log(value), ratio)
            gap = math.log(float(value.detach())) - math.log(self.goal(name))
            if worst is None or gap > worst[1]:
                worst = (-grad * (1 - ratio.detach()), gap)
        assert worst is not None
        free = ~self.bank.hardened
        return worst[0].clamp_min(0), free, worst[1]

    @torch.no_grad()
    def _balanced(self, task: Tensor) -> None:
        bank = self.bank
        with torch.enable_grad():
            share, free, gap = self._log_gradient()
        keep = (1 - bank.ratio).double()
        # Cheap units would turn noise into leaps: their share is floored at a tenth of an even one.
        floor = 0.1 * share.sum() / max(len(share), 1)
        value = task.double() * keep / torch.maximum(share, floor)
        velocity = bank.velocity
        velocity.mul_(self.momentum).add_(value.to(velocity.dtype), alpha=1 - self.momentum)
        v = velocity.double()
        weight = torch.where(free, share, torch.zeros_like(share))
        total = weight.sum().clamp_min(1e-12)
        v = v - (weight * v).sum() / total
        spread = ((weight * v.square()).sum() / total).sqrt().clamp_min(1e-12)
        rate = self._rate()
        move = (-rate * (v / spread).clamp(-self.clip, self.clip)) * free
        theta = -torch.log(keep.clamp_min(1e-6)) + move
        self._land(theta, free)

    def _rate(self) -> float:
        """Step in nats: the whole way sums to ``travel``, falling to zero at the end (half cosine)."""
        begin = self.warmup * self.total_steps
        span = max(self.total_steps - begin, 1.0)
        x = min(max((self.steps - begin) / span, 0.0), 1.0)
        return self.travel / span * (1 + math.cos(math.pi * x))

    @torch.no_grad()
    def _land(self, theta: Tensor, free: Tensor) -> None:
        """Shift all free ``theta`` by one number so that the continuous resource meets the scheduled target."""
        bank = self.bank
        # A stage that lost its last block must be able to come back, so its ratio stays just short of one.
        high = 1 - self.low.double().clamp_min(0.25) / bank.size.double()

        def ratio(shift: float) -> Tensor:
            a = 1 - torch.exp(-(theta + shift))
            a = torch.minimum(a.clamp_min(0), high)
            return torch.where(free, a, bank.ratio.double())

        def gap(shift: float) -> float:
            a = ratio(shift)
            return max(math.log(float(self.space.counters[n].continuous(bank, a)) / self.goal(n)) for n in self.targets)

        low, top = -0.5, 0.5
        while gap(low) < 0 and low > -16:
            low *= 2
        while gap(top) > 0 and top < 16:
            top *= 2
        for _ in range(24):
            middle = (low + top) / 2
            low, top = (middle, top) if gap(middle) > 0 else (low, middle)
        bank.ratio.copy_(ratio(top))

    @torch.no_grad()
    def _harden_depth(self) -> None:
        keep = self.bank.hard_keep()
        for unit in self.space.units.values():
            if unit.kind == 'depth' and not bool(self.bank.hardened[unit.index]):
                self.bank.harden(unit.index, keep[unit.start : unit.start + unit.size])

    # -- the end
    def finalize(self) -> Structure:
        """Harden every unit so that the target is met: never above, at most 1% below where the space allows."""
        keep = fit_counts(self.space, self.targets, low=self.low)
        for unit in self.space.units.values():
            self.bank.harden(unit.index, keep[unit.start : unit.start + unit.size])
        return self.space.structure()

    # -- resume
    def state_dict(self) -> dict[str, Tensor]:
        """Everything that a resumed search needs beside the model's own state; tensors only."""
        return self.bank.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.bank.load_state_dict(dict(state))
