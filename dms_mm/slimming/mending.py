"""Mend a plan until all trial structures run as predicted, or say how units have to be found anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from ..mutables import DepthUnit, MutableUnit
from ..mutators.find import Revision
from ..progress import Progress
from ..tracing import Call, IntArray, TraceError
from ..tracing.state import State
from .blame import alone, blamed, foreign_ties
from .compare import Mismatch, try_structure
from .cuts import telling_trials
from .plan import Plan, Remedy
from .remedies import is_cut, is_single, places, remedies, width_mends
from .scales import scale_remedies
from .shares import shares
from .sizes import Sizes
from .ties import changes
from .trials import Trial, trial_structures

REST = 'what is left of a width that is cut in equal parts'
MOST_REPLACED = 8  # remedies that give a plan another meaning, before such are tried no more


@dataclass(frozen=True)
class _Step:
    """A plan that comes further in a trial structure, where it fails then, and what the step replaced in the plan."""

    plan: Plan
    problem: Mismatch | None
    replaces: bool = False


@dataclass
class Learnt:
    """What trials of other units said of the same forward.

    Attributes:
        served: place and message of a problem -> number of the remedy that got past it.
        told: places and messages of what failed on fake tensors.
    """

    served: dict[tuple[tuple[int, int], str], int] = field(default_factory=dict)
    told: set[tuple[tuple[int, int], str]] = field(default_factory=set)
    progress: Progress = field(default_factory=lambda: Progress('slim models tried without data'))


class Mending:
    """From a plan to one that holds for all trial structures, or to a revision of the units."""

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        sizes: Sizes,
        inputs: Any,
        forward_fn: Callable[..., Any] | None,
        learnt: Learnt,
    ) -> None:
        self.model, self.plan, self.sizes = model, plan, sizes
        self.inputs, self.forward_fn = inputs, forward_fn
        self.shared = State(model, forward_fn, shared=True)  # by all slim models
        self.learnt = learnt
        self.on_meta = True  # as long as runs on meta tensors tell what those on fake tensors do

    def run(self) -> Plan | Revision:
        revision = self._keep_copies()
        if revision is not None:
            return revision
        trials = trial_structures(self.plan.units, trained=len(self.plan.trace.calls) > 1)
        trials += telling_trials(self.plan, trials)
        queue = list(trials)
        replaced = 0
        while queue:
            trial = queue.pop(0)
            problem = self._try(self.plan, trial)
            while problem is not None:
                step = self._step(problem, trial, replaced < MOST_REPLACED)
                if isinstance(step, Revision):
                    return step
                self.plan, problem = step.plan, step.problem
                if step.replaces:
                    # Another meaning of an attribute must hold for the structures before, too.
                    replaced += 1
                    queue = list(trials)
        return self.plan

    def _try(self, plan: Plan, trial: Trial) -> Mismatch | None:
        verdict = try_structure(
            plan,
            self.model,
            trial.keep,
            trial.training,
            self.inputs,
            self.forward_fn,
            self.shared,
            self.on_meta,
            self.learnt.told,
        )
        self.learnt.progress.step()
        self.on_meta = verdict.meta_agrees
        if verdict.mismatch is not None:
            self.learnt.told.add((verdict.mismatch.place, verdict.mismatch.message))
        return verdict.mismatch

    def _keep_copies(self) -> Revision | None:
        """A forward that counts its blocks can't do with fewer; then their copies stay."""
        if not self.plan.copies:
            return None
        copied = {copy.block for copy in self.plan.copies}
        keep = np.ones(len(self.plan.ownership.units), dtype=bool)
        keep[[element for path, element in self.plan.ownership.blocks if path in copied]] = False
        problem = self._try(self.plan, Trial(keep))
        if problem is None:
            return None
        note = f'copies of removed blocks stay in concatenations, because without them {problem.message}'
        return Revision(closes_gates=True, notes=[note])

    def _step(self, problem: Mismatch, trial: Trial, may_replace: bool) -> _Step | Revision:
        """The first remedy that gets past the problem, or units to find anew."""
        # Several asserts may guard one operator: a remedy that satisfies the first of them is a step, too.
        partial: _Step | None = None
        idle: set[Any] = set()  # attributes that the operator does not go by: what mends them with others, neither
        failed: list[Remedy] = []
        for number, remedy in self._in_order(problem, remedies(self.plan, self.sizes, problem, trial.keep)):
            if remedy.ties:
                if changes(self.plan.trace.elements, remedy.ties):
                    step = self._one_of_several(problem, trial, failed) or self._shared(problem)
                    if step is not None or self._helps(problem, trial, remedy):
                        return step or Revision(ties=remedy.ties)
                continue
            single = is_single(remedy)
            if (remedy.replaces and not may_replace) or not (single or idle.isdisjoint(places(remedy))):
                continue
            plan = self.plan.mended(remedy)
            after = self._try(plan, trial)
            if after is not None and after.argument and after.place < problem.place:
                plan, after = self._undone(plan, after, trial)
            if after is None or after.place > problem.place or _other_number(problem, after):
                self.learnt.served[problem.place, problem.message] = number
                return _Step(plan, after, remedy.replaces)
            failed.append(remedy)
            if 'AssertionError' in problem.message:
                partial = partial or (_Step(plan, after) if after.message != problem.message else None)
            elif single and _unmoved(problem, after):
                idle |= places(remedy)
        if partial is not None:
            return partial
        found = self._one_of_several(problem, trial, failed) or self._shared(problem)
        if found is not None:
            return found
        culprits = self._culprits(trial) if trial.cuts_blocks else []
        if culprits:
            notes = [f'{name} is no unit, because without its blocks {problem.message}' for name in culprits]
            return Revision(dropped=culprits, notes=notes)
        shows = self._shows(problem, trial)
        ties = [] if problem.argument else foreign_ties(self.plan, self.sizes, problem, trial.keep, shows)
        if ties and changes(self.plan.trace.elements, ties):
            return Revision(ties=ties)
        return self._freeze(problem, blamed(self.plan, self.sizes, problem, trial.keep, shows))

    def _undone(self, plan: Plan, problem: Mismatch, trial: Trial) -> tuple[Plan, Mismatch | None]:
        """What a mended attribute is read for earlier, as a factor, is undone in weights."""
        for remedy in scale_remedies(plan, self.sizes, problem, trial.keep):
            again = plan.mended(remedy)
            after = self._try(again, trial)
            if after is None or after.place > problem.place:
                return self._undone(again, after, trial) if after is not None and after.argument else (again, after)
        return plan, problem

    def _in_order(self, problem: Mismatch, found: Iterable[Remedy]) -> Iterator[tuple[int, Remedy]]:
        """Remedies with their numbers; what served before, of other units or in another structure, comes first."""
        first = self.learnt.served.get((problem.place, problem.message))
        return enumerate(found) if first is None else iter(sorted(enumerate(found), key=lambda pair: pair[0] != first))

    def _one_of_several(self, problem: Mismatch, trial: Trial, failed: Sequence[Remedy]) -> _Step | None:
        """A remedy for some of the widths by which a piece is cut; what else it is cut by is still to be mended."""
        if not is_cut(self.sizes.call(*problem.place), problem):
            return None
        for remedy in failed:
            owners = [owner.ravel() for mend in remedy.mends for owner in mend.owners]
            elements = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *owners]))
            units = [u for u in self.plan.units if ((u.start <= elements) & (elements < u.start + u.size)).any()]
            some = Trial(alone(trial.keep, units), training=trial.training)
            if remedy.replaces or not remedy.mends or some.keep.all():
                continue
            before = self._try(self.plan, some)
            if before is None or before.place != problem.place:
                continue
            plan = self.plan.mended(remedy)
            after, still = self._try(plan, some), self._try(plan, trial)
            if (after is None or after.place > problem.place) and still is not None and still.place == problem.place:
                return _Step(plan, still)
        return None

    def _helps(self, problem: Mismatch, trial: Trial, remedy: Remedy) -> bool:
        """Whether a piece is cut as predicted once what a remedy ties has lost the same."""
        if not is_cut(self.sizes.call(*problem.place), problem):
            return True
        keep = trial.keep.copy()
        for tie in remedy.ties:
            lives = np.all([self.plan.lives(ids, trial.keep) for ids in tie.right], 0)
            owner = self.plan.owner(tie.left)
            for column in owner.T:
                keep[column[column >= 0]] = lives[column >= 0]
        after = self._try(self.plan, Trial(keep, training=trial.training))
        return after is None or after.place != problem.place

    def _shared(self, problem: Mismatch) -> Revision | None:
        """Parts of a width that is cut by a share of it shrink alike, if the forward goes by that."""
        for found in shares(self.plan, self.sizes, problem):
            if not changes(self.plan.trace.elements, found.ties):
                continue
            trial = Trial(found.keep, training=bool(problem.mode))
            for plan in (self.plan, *width_mends(self.plan, self.sizes, problem)):
                after = self._try(plan, trial)
                if after is None or after.place > problem.place:
                    return Revision(ties=found.ties, freezes=[(ids, REST) for ids in found.rest])
        return None

    def _shows(self, problem: Mismatch, trial: Trial) -> Callable[[Sequence[MutableUnit]], bool]:
        """Whether a trial in which these units alone lose what they do in ``trial`` fails at the same point."""

        def shows(units: Sequence[MutableUnit]) -> bool:
            found = self._try(self.plan, Trial(alone(trial.keep, units), training=trial.training))
            return found is not None and (found.place, found.argument) == (problem.place, problem.argument)

        return shows

    def _culprits(self, trial: Trial) -> list[str]:
        """Depth units whose blocks can't be left out, if that is what fails."""
        depth = [unit for unit in self.plan.units if isinstance(unit, DepthUnit)]
        whole = trial.keep.copy()
        for unit in depth:
            whole[unit.start : unit.start + unit.size] = True
        if self._try(self.plan, Trial(whole)) is not None:
            return []
        found = []
        for unit in depth:
            alone = whole.copy()
            alone[unit.start : unit.start + unit.size] = trial.keep[unit.start : unit.start + unit.size]
            if self._try(self.plan, Trial(alone)) is not None:
                found.append(unit.name)
        return found

    def _freeze(self, problem: Mismatch, blamed: list[IntArray]) -> Revision:
        """Freeze elements that are to blame, or what the operator sees; where it sees no unit itself, whatever its
        module does with units."""
        reason = f'the slim forward fails: {problem.message}'
        notes = [f'frozen because the slim forward failed: {problem.message}']
        if blamed:
            elements = np.unique(np.concatenate(blamed))
            roots = self.plan.ownership.roots[elements]
            return Revision(freezes=[(roots[roots >= 0], reason)], notes=notes)
        calls = self.plan.trace.calls[problem.mode]
        path = calls[problem.index].module
        group = [calls[problem.index]]
        while not (touched := self._touched(group)) and group is not calls:
            group = [c for c in calls if (c.module + '.').startswith(path + '.')] if path else calls
            path = path.rpartition('.')[0]
        if not touched:
            raise TraceError(
                'a slim model does not run as traced, and no unit at that operator can be frozen: ' + problem.message
            )
        parts = [self.plan.trace.elements.parts(ids) for ids in touched]
        return Revision(
            freezes=[(ids[ids >= 0], reason) for ids in parts],
            notes=notes,
        )

    def _touched(self, calls: list[Call]) -> list[IntArray]:
        entries = [entry for call in calls for axes in [*call.axes, *call.input_axes] for entry in axes]
        return [ids for _, ids in entries if self.sizes.pruned(ids)]


def _unmoved(before: Mismatch, after: Mismatch) -> bool:
    """The same operator with the same numbers; what a model says in words of its own does not show them."""
    shown = not before.failed or before.message.startswith("RuntimeError: shape '")
    return shown and (before.place, before.message) == (after.place, after.message)


def _other_number(before: Mismatch, after: Mismatch) -> bool:
    """The same operator, of which one number less is another than the trace's."""
    return before.place == after.place and '' != after.argument != before.argument != ''
