"""One trial of the oracle: run a sample traced, remove live positions, run the real operators on what is left.

What must hold is promise 1 (DESIGN 4) for a model of these operators alone: where the rules asked for masks (consumed
dimensions of parameters, requests to makers) the dead positions of the full inputs are zero, everywhere else they hold
whatever was in them; then all surviving positions of every result equal the slim result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..elements import IntArray
from ..poles import is_barred
from .arguments import RESTATED, Cut
from .positions import Alive, alive_of, cut, dead_of, lives_of, same_numbers
from .tape import Step, replay, rerun
from .traced import Seen, Traced

# Their numbers are whatever was in memory.
UNDEFINED = {
    f'aten::{name}'
    for name in 'empty empty_like empty_permuted empty_strided new_empty new_empty_strided resize_'.split()
}

# Their second result holds numbers of channels, for a backward alone.
NUMBERED = {'torchvision::ps_roi_align', 'torchvision::ps_roi_pool'}


@dataclass
class Finding:
    """What came of a trial.

    Attributes:
        axes: (input, dimension) -> True if positions of it were removed, else why not ('' if by chance).
        wrong: what is wrong, or nothing; ``culprit`` is the operator where it shows.
    """

    axes: dict[tuple[int, int], bool | str] = field(default_factory=dict)
    wrong: str = ''
    culprit: str = ''


class WrongError(Exception):
    """A prediction that does not hold at ``step``."""

    def __init__(self, step: Step | None, message: str) -> None:
        super().__init__(message)
        self.step = step


class Trial(Traced):
    """A traced tape; :meth:`run` cuts it at random."""

    # -- cutting
    def _random_keep(self, generator: np.random.Generator) -> np.ndarray:
        """(N,) bool: an element that may go goes with probability 0.4, unless a dimension would have none left."""
        keep = np.ones(len(self.elements), dtype=bool)
        keep[self.removable] = generator.random(len(self.removable)) < 0.6
        while True:
            before = int(keep.sum())
            for ids in [ids for s in self.sources for _, ids in s.entries]:
                if not lives_of(ids, self.elements, keep).any():
                    parts = self.elements.parts(ids)[int(generator.integers(len(ids)))]
                    keep[parts[parts >= 0]] = True
            if int(keep.sum()) == before:
                return keep

    def run(self, generator: np.random.Generator) -> Finding:
        """Cut at random and compare."""
        finding = Finding()
        keep = self._random_keep(generator)
        try:
            self._compare(keep)
            self._check_claims(keep)
        except WrongError as error:
            finding.wrong = str(error)
            finding.culprit = error.step.name if error.step is not None else ''
            return finding
        for i, s in enumerate(self.sources):
            for (d,), ids in s.entries if not s.role.viewed else []:
                if s.role.carries(d):
                    finding.axes[i, d] = True if not lives_of(ids, self.elements, keep).all() else self._why(ids)
        return finding

    def _why(self, ids: IntArray) -> str:
        parts = np.unique(self.elements.parts(ids)).tolist()
        return next((self.frozen[r] for r in parts if r in self.frozen), '')

    def _alive(self, step: int, slot: int, keep: np.ndarray) -> Alive:
        while (step, slot) not in self.seen:
            step -= 1
        seen = self.seen[step, slot]
        try:
            return alive_of(seen.shape, seen.entries, self.elements, keep)
        except ValueError as error:
            raise WrongError(self.tape.steps[step] if step >= 0 else None, str(error)) from error

    def _masked(self, keep: np.ndarray, asked: Sequence[tuple[frozenset[str], IntArray]]) -> list[Tensor]:
        """Full inputs; zero where a consumer's dimension is dead, and where what is asked for is."""
        result = []
        for s in self.sources:
            base = s.base.clone()
            for (d,), ids in s.entries:
                gone = np.zeros(len(keep), dtype=bool)
                if (s.name, d) in self.trace.consumers:
                    gone |= ~keep
                for makers, wanted in asked:
                    barred = (s.name, d) in self.trace.barred
                    if not barred and any(self.trace.linear((name, d)) == (s.name, d) for name in makers):
                        gone |= self._gone(wanted, keep)
                if gone.any():
                    base.masked_fill_(dead_of(base.shape, (d,), ids, gone, self.elements), 0)
            result.append(base.view(s.shape))
        return result

    def _gone(self, ids: IntArray, keep: np.ndarray) -> np.ndarray:
        """(N,) bool: dead elements that ``ids`` are composed of."""
        gone = np.zeros(len(keep), dtype=bool)
        parts = self.elements.parts(ids)
        gone[parts[parts >= 0]] = ~keep[parts[parts >= 0]]
        return gone

    # -- comparing
    def _results(self, inputs: Sequence[Tensor], last: int | None = None) -> dict[tuple[int, int], Tensor]:
        """(step, slot) -> what was in the tensor behind that step, up to step ``last``; inputs under step -1."""
        found = {(-1, k): x.clone() for k, x in enumerate(inputs)}

        def after(k: int, step: Step, changed: dict[int, Tensor]) -> None:
            found.update({(k, slot): x.clone() for slot, x in changed.items()})

        try:
            replay(self.tape if last is None else self.tape.until(last), inputs, after=after)
        except Exception as error:
            raise WrongError(None, f'fails on masked inputs: {error}') from error
        return found

    def _compare(self, keep: np.ndarray) -> None:
        full = self._results(self._masked(keep, self.trace.requests))
        loose = self._loose()
        inputs = []
        for slot, s in enumerate(self.sources):
            small = cut(s.base, alive_of(tuple(s.base.shape), s.entries, self.elements, keep)).clone()
            alive = self._alive(-1, slot, keep)
            if small.numel() != int(np.prod([a.sum() for a in alive])):
                raise WrongError(None, f'a view of an input leaves {small.numel()} numbers where a box should be')
            inputs.append(small.reshape([int(a.sum()) for a in alive]))
        # Where copies are made of one position, the function that makes them knows how many.
        follows = self.tape.function is not None and any(seen.free for seen in self.seen.values())
        at = 0

        def restate(k: int, step: Step, args: Any, kwargs: Any) -> tuple[Any, Any]:
            nonlocal at
            at = k
            change = RESTATED.get(step.name)
            if change is None:
                return args, kwargs
            state = Cut(
                [self._alive(k - 1, slot, keep) for slot in step.takes],
                [self._alive(k, slot, keep) for slot in step.out],
                self.seen[k, step.out[0]].free if follows else set(),
            )
            return change(state, args, kwargs)

        def after(k: int, step: Step, changed: dict[int, Tensor]) -> None:
            for slot, have in changed.items():
                want = cut(full[k, slot], self._alive(k, slot, keep))
                for d in self.seen[k, slot].free:
                    # Copies of one position may be as many as they like.
                    want, have = want.narrow(d, 0, 1), have.narrow(d, 0, 1)
                if have.shape != want.shape:
                    raise WrongError(step, f'gives {tuple(have.shape)} where {tuple(want.shape)} should be left')
                if slot not in loose and not same_numbers(have, want):
                    raise WrongError(step, 'gives other numbers on what is left')

        try:
            (rerun if follows else replay)(self.tape, inputs, restate, after)
        except WrongError:
            raise
        except Exception as error:
            raise WrongError(self.tape.steps[at], f'fails on what is left: {error}') from error

    def _loose(self) -> set[int]:
        """Slots whose numbers depend on chance."""
        loose: set[int] = set()
        for step in self.tape.steps:
            chance = step.name in UNDEFINED or torch.Tag.nondeterministic_seeded in step.func.tags
            if chance or loose.intersection(step.takes):
                loose.update(step.changes)
            elif step.name in NUMBERED:
                loose.update(step.out[1:])
        return loose

    def _claims(self) -> Iterator[tuple[int, int, Seen, frozenset[str]]]:
        for (k, slot), seen in self.seen.items():
            if k < 0 and seen.source in self.trace.normed:
                continue  # only what a weight_norm makes of it is read
            for makers in {seen.makers, frozenset([seen.source]) if seen.source else None} - {None}:
                yield k, slot, seen, makers  # type: ignore[misc]

    def _check_claims(self, keep: np.ndarray) -> None:
        """Who is said to make dead positions zero does; dimensions that are said to be copies are."""
        known: dict[tuple[frozenset[str], bytes, int], dict[tuple[int, int], Tensor]] = {}
        for k, slot, seen, makers in self._claims():
            for dims, ids in seen.entries:
                gone = self._gone(ids, keep)
                if not gone.any() or is_barred(self.trace, makers, ids):
                    continue
                key = makers, gone.tobytes(), k
                if key not in known:
                    known[key] = self._results(self._masked(keep, [*self.trace.requests, (makers, ids)]), k)
                full = known[key][k, slot]
                if full.masked_select(dead_of(seen.shape, dims, ids, gone, self.elements)).any():
                    step = self.tape.steps[k] if k >= 0 else None
                    raise WrongError(step, f'masks of {sorted(makers)} leave dead positions that are not zero')
        copies = [(k, slot, d) for (k, slot), seen in self.seen.items() for d in seen.free]
        plain = self._results([s.base.clone().view(s.shape) for s in self.sources]) if copies else {}
        for k, slot, d in copies:
            x = plain[k, slot]
            if slot not in self._loose() and not torch.equal(x.narrow(d, 0, 1).expand_as(x), x):
                raise WrongError(self.tape.steps[k], f'positions along dimension {d} are not copies of one')
