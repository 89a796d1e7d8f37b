"""One trial of the oracle: run a sample traced, remove live positions, run the real operators on what is left.

What must hold is promise 1 (DESIGN 4) for a model of these operators alone: where the rules asked for masks (consumed
dimensions of parameters, requests to makers) the dead positions of the full inputs are zero, everywhere else they hold
whatever was in them; then all surviving positions of every result equal the slim result.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ..dispatch import Tracer
from ..elements import IntArray
from ..forward import fake_inputs
from ..ledger import Entries, Ledger, Trace
from .arguments import RESTATED, Cut
from .positions import Alive, alive_of, cut, dead_of, lives_of, same_numbers
from .roles import Cast, Role, Shape
from .tape import Step, Tape, replay, rerun

# Their numbers are whatever was in memory.
UNDEFINED = {
    f'aten::{name}'
    for name in 'empty empty_like empty_permuted empty_strided new_empty new_empty_strided resize_'.split()
}


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


@dataclass
class _Source:
    """An input before its view, and the elements that it carries."""

    name: str
    role: Role
    base: Tensor
    entries: Entries
    shape: Shape


@dataclass
class _Seen:
    """What the trace knows of a tensor."""

    shape: Shape
    entries: Entries
    makers: frozenset[str] | None
    source: str | None
    free: set[int]


@functools.cache
def _mode() -> FakeTensorMode:
    """One for all trials: making it takes as long as a trace."""
    return FakeTensorMode(allow_non_fake_inputs=True)


class Trial:
    """A tape with a cast, traced once; :meth:`run` cuts it at random."""

    def __init__(self, tape: Tape, cast: Cast) -> None:
        self.tape = tape
        self.trace = Trace()
        self.elements = self.trace.elements
        self.sources = [self._source(k, x, role) for k, (x, role) in enumerate(zip(tape.inputs, cast.roles))]
        if cast.shared is not None:
            i, d, j, e = cast.shared
            a, b = (dict(self.sources[k].entries) for k in (i, j))
            self.elements.union(a[d,], b[e,])
        self.seen: dict[tuple[int, int], _Seen] = {}  # (step, slot) as it is behind the step; step -1 for inputs
        self._run_traced()
        self.elements.resolve()
        self.frozen = self.elements.frozen()
        parts = [self.elements.parts(ids).ravel() for s in self.sources for _, ids in s.entries]
        roots = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *parts])).tolist()
        self.removable = np.array([r for r in roots if r >= 0 and r not in self.frozen], dtype=np.int64)

    # -- tracing
    def _source(self, k: int, x: Tensor, role: Role) -> _Source:
        name, shape = f'input{k}', tuple(x.shape)
        base = x.reshape(role.base_shape(shape))
        entries: Entries = []
        if role.kind == 'parameter':
            # All dimensions of a parameter carry elements; some may have to stay.
            self.trace.params[name] = [self.elements.new(size) for size in base.shape]
            entries = [((d,), ids) for d, ids in enumerate(self.trace.params[name])]
            for (d,), ids in entries:
                if not role.carries(d):
                    self.elements.freeze(ids, 'fixed by the trial')
        else:
            entries = [((d,), self.elements.new(size)) for d, size in enumerate(base.shape) if role.carries(d)]
        return _Source(name, role, base, [(d, ids) for d, ids in entries if len(ids) > 1], shape)

    def _run_traced(self) -> None:
        mode = _mode()
        tracer = Tracer(self.trace, record_costs=False)
        inputs: list[Any] = []
        for s in self.sources:
            x = fake_inputs(mode, s.base)
            made = frozenset([s.name]) if s.role.kind in ('made', 'parameter') else None
            tracer.ledger.put(x, s.entries, s.name if s.role.kind == 'parameter' else None, made)
            inputs.append(x)

        def note(step: int, slot: int, x: Any) -> None:
            known = list(Ledger.entries(x)), Ledger.makers(x), Ledger.source(x), set(Ledger.free(x))
            self.seen[step, slot] = _Seen(tuple(x.shape), *known)

        def after(k: int, step: Step, changed: dict[int, Tensor]) -> None:
            for slot, x in changed.items():
                note(k, slot, x)

        with torch.no_grad(), mode, tracer:
            inputs = [x if tuple(x.shape) == s.shape else x.view(s.shape) for x, s in zip(inputs, self.sources)]
            for slot, x in enumerate(inputs):
                note(-1, slot, x)
            replay(self.tape, inputs, after=after)

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
                    if s.name in makers:
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
        return loose

    def _claims(self) -> Iterator[tuple[int, int, _Seen, frozenset[str]]]:
        for (k, slot), seen in self.seen.items():
            for makers in {seen.makers, frozenset([seen.source]) if seen.source else None} - {None}:
                yield k, slot, seen, makers  # type: ignore[misc]

    def _check_claims(self, keep: np.ndarray) -> None:
        """Who is said to make dead positions zero does; dimensions that are said to be copies are."""
        known: dict[tuple[frozenset[str], bytes, int], dict[tuple[int, int], Tensor]] = {}
        for k, slot, seen, makers in self._claims():
            for dims, ids in seen.entries:
                gone = self._gone(ids, keep)
                if not gone.any():
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
