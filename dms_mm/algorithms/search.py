"""The search: how task gradients and a budget move the pruning ratios (sections 3.1 to 3.3)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..registry import RULES, build, unknown
from ..slimming.structure import Structure
from ..space import SearchSpace
from ..topk.functional import SCORES
from .budget import Ending, fit_counts, with_parts
from .cost import averaged
from .passing import Passed, legs_of, names_of, parse_budgets, retargeted
from .schedule import Schedule
from .strategies.structures import structure_of


class Search:
    """Trains the ratios of a :class:`SearchSpace` beside any training loop.

    Call ``loss = task + search.resource_loss()``, ``loss.backward()``, step the weights, then :meth:`step`.

    Args:
        target: ``{'macs': 0.5}``; at most 1.0 is a share of the supernet, above it an absolute count per sample; or
            ``'390M'``, ``'3ms'``, ``'16MB'``, ``'40%'``. Several entries are met together. Every registered resource
            may be named, and as ``'backbone/macs'`` that of a part. Lists (``{'macs': [0.5, 0.3]}``) are budgets that
            the search passes on its way to the last one: it stays at each for a while, and what it has found there is
            in :attr:`passed`.
        total_steps: calls of :meth:`step` in the whole search.
        rule: how what the selector trains moves: a registered name (``'balanced'``, ``'paper'``), or
            ``dict(type='BalancedRule', travel=1.5)``. Options beside those named here are the rule's, too.
        warmup: share of the steps that train weights and importance alone.
        ramp: share of the steps, after the warm-up, in which the target falls from supernet to budget (eq. 10).
        widths_only: share of the steps at the end in which the masks of blocks and heads are hard.
        hold: share of the steps that it stays at every budget but the last; None divides what is left evenly.
        epochs: the schedule goes by so many equal parts of the steps (:class:`~.schedule.Schedule`).
        score: ``'taylor'``, ``'fisher'``, ``'snip'``, ``'index'`` or ``'l1'`` (table 6).
        decay: of the moving average of the score; 0 for the newest score alone.
        parts: module name or pattern -> targets of what it has: ``dict(backbone=dict(macs=0.6))``, a share of its own.

    Attributes:
        rule: the :class:`~.rules.Rule`.
        targets: resource -> absolute target, of the last budget; of parts as ``'backbone/macs'``.
        budgets: those of all budgets, one after the other, and ``names``, their shares as in ``'0.30'``.
        on_budget: called with the number of a budget that was just passed, and its structure.
        ending: what :meth:`finalize` made of the targets.

    Raises:
        ValueError: unknown rule, option or resource, a target that no structure of the space reaches, budgets that do
            not fall, or a rule that can't train what the space's selector has.
    """

    def __init__(
        self,
        space: SearchSpace,
        target: Mapping[str, Any],
        total_steps: int,
        *,
        rule: str | Mapping[str, Any] = 'balanced',
        warmup: float = 0.1,
        ramp: float = 0.4,
        widths_only: float = 0.2,
        hold: float | None = None,
        epochs: int | None = None,
        score: str = 'taylor',
        decay: float = 0.99,
        parts: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if score not in (*SCORES, 'index', 'l1'):
            raise unknown('score', score, [*SCORES, 'index', 'l1'])
        if not isinstance(decay, (int, float)) or not 0 <= decay <= 1:
            raise ValueError(f'decay={decay!r} of the search must be a number from 0 to 1')
        self.space, self.bank = space, space.bank
        self._steps = space.bank.steps, -1, 0  # tensor, its version, and its number
        self.budgets = parse_budgets(space, with_parts(target, parts or {}))
        self.targets = self.budgets[-1]
        self.names = names_of(space, self.budgets)
        self.schedule = Schedule(
            int(total_steps), warmup, ramp, widths_only, epochs, legs_of(space, self.budgets), hold
        )
        self.on_budget: Callable[[int, Structure], None] = lambda number, structure: None
        self.ending: Ending | None = None
        self.total_steps = int(total_steps)
        self.score, self.decay = score, decay
        self.warmup, self.ramp, self.widths_only = warmup, ramp, widths_only
        beside = ['warmup', 'ramp', 'widths_only', 'hold', 'epochs', 'decay', 'parts', 'rule', 'score']
        self.rule = build(RULES, rule, self, what='rule', beside=beside, options=options)
        self.bank.remember('held', torch.zeros_like(self.bank.hardened))  # hard in the last phase alone
        self._passed = Passed(self, self.budgets)
        self.bank.trained.grad = None
        self.bank.warm.fill_(self.schedule.warms(self.steps))
        if score == 'index':
            order = torch.arange(len(self.bank.segment), device=self.bank.importance.device)
            self.bank.importance.copy_(-order)
        self.bank.refresh()

    # -- schedule
    @property
    def steps(self) -> int:
        """Calls of :meth:`step` so far; kept in the bank, so that it resumes with it."""
        steps = self.bank.steps
        known, version, number = self._steps
        if known is not steps or version != steps._version:  # read once for every change
            number = int(steps)
            self._steps = steps, steps._version, number
        return number

    @property
    def progress(self) -> float:
        return self.steps / self.total_steps

    def goal(self, resource: str) -> float:
        """The scheduled target ``r_t`` (eq. 10) at the present step."""
        stops = [float(self.space.supernet[resource]), *(budget[resource] for budget in self.budgets)]
        done = self.schedule.done(self.steps)
        number = min(int(done), len(stops) - 2)
        return stops[number] * (stops[number + 1] / stops[number]) ** (done - number)

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
        grad = averaged(bank.take_grad() / grad_scale)
        if bool(torch.isfinite(grad).all()):
            if self.score in SCORES:
                bank.update_importance(grad, self.score, self.decay)
            elif self.score == 'l1':
                bank.importance.copy_(self.space.l1_scores())
            if self.schedule.moves(self.steps):
                self.rule.step(bank.chain(grad))
                if not bank.grid.plain:
                    bank.clamp()  # a rule need not know of bounds and ties
        bank.trained.grad = None
        steps = self.steps + 1
        bank.steps += 1
        self._steps = bank.steps, bank.steps._version, steps
        bank.warm.fill_(self.schedule.warms(self.steps))
        if self.schedule.hard(self.steps):
            self._harden_blocks_and_heads()
        bank.refresh()
        if self._passed.number:
            self._pass_budgets()

    @torch.no_grad()
    def _harden_blocks_and_heads(self) -> None:
        """In the last phase widths alone are left, since a block or a head makes the cost jump."""
        hardened = self.bank.hardened.tolist()
        moving = [u for u in self.space.units.values() if u.kind in ('depth', 'head') and not hardened[u.index]]
        if moving:
            self.rule.hold_confidence()  # of units that are hard nothing more is seen
            keep = self.bank.hard_keep()
            held = self.bank.get_buffer('held')
            for unit in moving:
                held[unit.index] = True
                self.bank.harden(unit.index, keep[unit.start : unit.start + unit.size])

    # -- budgets on the way
    def _pass_budgets(self) -> None:
        """Write down the structures of budgets whose time is over; the search itself goes on as it was."""
        for number in range(self.schedule.passed(self.steps)):
            if number not in self._passed.done():
                targets = self.budgets[number]
                self._passed.add(number, fit_counts(self.space, targets, low=self.rule.lowest(targets)))
                self.on_budget(number, self._passed.structure(number))

    @property
    def passed(self) -> dict[str, Structure]:
        """Name of a budget, as ``'0.30'`` -> the structure that the search passed there; without the last one."""
        return {self.names[number]: self._passed.structure(number) for number in self._passed.done()}

    def retarget(self, target: Mapping[str, Any]) -> Structure:
        """The structure of another budget, from what was learnt so far; the search and its space stay as they are.

        Between two budgets that the search passed (or its present state) every unit keeps the geometric mean of what it
        kept there, weighted by the way between them, and elements are ranked as at the upper one, where those that go
        were still seen. Beyond them the nearest is scaled: all widths and depths by one factor, as far as bounds
        allow, which is how the balanced rule itself goes from one target to the next. The further from a budget that
        the search has stayed at, the more this is uniform scaling of what it found there.

        Raises:
            ValueError: a target that no structure of the space reaches, or several budgets.
        """
        return structure_of(self.space, retargeted(self, self._passed, target))

    # -- the end
    def reached(self) -> dict[str, float]:
        """Resource -> what the ratios say, as a share of its target: what the search has come to by itself.

        Before rounding, and until :meth:`finalize`, which makes everything fit.
        """
        bank, counters = self.bank, self.space.counters
        ratio = bank.ratio.detach().double()
        with torch.no_grad():
            return {n: float(counters[n].continuous(bank, ratio)) / goal for n, goal in self.targets.items()}

    def confidence(self) -> dict[str, float]:
        """Unit -> what of its averaged signal is no noise: near 1 the search knows which way it goes, near 0 it saw
        nothing that tells the unit from others. Without units that it saw nothing of; empty with rules that don't
        measure it."""
        found = self.rule.confidence
        if found is None:
            return {}
        return {name: value for name, value in zip(self.space.units, found.tolist()) if value >= 0}

    def finalize(self, keep: Tensor | None = None) -> Structure:
        """Harden every unit so that the target is met: never above, at most 1% below where the space allows.

        A search that did not come to its target by itself is scaled to it, and a warning says how far it was.

        Args:
            keep: (N,) bool, another structure to end with (:mod:`.candidates`).

        Raises:
            ValueError: ``keep`` is above a target, off the grid, or no structure of the space.
        """
        if keep is not None and (keep.dtype != torch.bool or keep.shape != self.bank.keep.shape):
            raise ValueError(f'keep must be {tuple(self.bank.keep.shape)} bool, not {tuple(keep.shape)} {keep.dtype}')
        if keep is not None:
            self.space.check_keep(keep)
        if keep is not None and self._filled(keep) > 1:
            raise ValueError(f'keep takes {self._filled(keep):.4g} times the target')
        confidence, reached = self.confidence(), self.reached()
        by_itself = reached if keep is None else {}
        keep = self.fitted() if keep is None else keep
        self.rule.hold_confidence()
        self.bank.get_buffer('held').logical_or_(~self.bank.hardened)
        self.bank.harden_all(keep)
        structure = self.space.structure()
        self.ending = Ending.of(self.targets, structure.resources, by_itself, structure.supernet)
        if self.ending.scaled:
            logging.getLogger('dms_mm').warning('after %d of %d steps: %s', self.steps, self.total_steps, self.ending)
        for name, value in confidence.items():
            structure.units[name]['confidence'] = round(value, 3)
        return structure

    def fitted(self) -> Tensor:
        """(N,) bool: the structure within every target. What the last phase held stays, unless that is more than 1% off
        and without it one comes nearer: then it is let go."""
        held = self.bank.get_buffer('held')
        stays: Tensor | None = None
        if bool(held.any()):
            with contextlib.suppress(ValueError):  # nothing fits with it
                stays = fit_counts(self.space, self.targets, low=self.rule.low)
            if stays is not None and self._filled(stays) >= 0.99:
                return stays
            self.bank.hardened.masked_fill_(held, False)
        keep = fit_counts(self.space, self.targets, low=self.rule.low)
        return keep if stays is None or self._filled(keep) > self._filled(stays) else stays

    def _filled(self, keep: Tensor) -> float:
        """What of the target that binds a structure uses."""
        return max(self.space.counters[n].count(keep, self.bank) / goal for n, goal in self.targets.items())

    # -- resume
    def state_dict(self) -> dict[str, Tensor]:
        """Everything that a resumed search needs beside the model's own state; tensors only."""
        return self.bank.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """From :meth:`state_dict`. What an older revision's rule did not remember yet begins anew, with a warning."""
        missing = self.bank.remembered - set(state)
        if missing:
            logging.getLogger('dms_mm').warning('this search did not remember %s yet: begun anew', sorted(missing))
        own = self.bank.state_dict()
        self.bank.load_state_dict({**{name: own[name] for name in missing}, **state})
