"""One sample of the oracle under the tracer: what the rules say of every tensor of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ..dispatch import Tracer
from ..findings import Entries, Trace
from ..ledger import Ledger
from ..running import fake_inputs
from .roles import Cast, Role, Shape
from .tape import Step, Tape, replay


@dataclass
class Source:
    """An input before its view, and the elements that it carries."""

    name: str
    role: Role
    base: Tensor
    entries: Entries
    shape: Shape


@dataclass
class Seen:
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


class Traced:
    """A tape with a cast, run under the tracer.

    Attributes:
        sources: its inputs, each with the elements that it was given.
        seen: (step, slot) -> what the trace knows of the tensor behind that step; step -1 for inputs.
        removable: (R,) elements of inputs that nothing froze.
    """

    def __init__(self, tape: Tape, cast: Cast) -> None:
        self.tape = tape
        self.trace = Trace()
        self.elements = self.trace.elements
        self.sources = [self._source(k, x, role) for k, (x, role) in enumerate(zip(tape.inputs, cast.roles))]
        if cast.shared is not None:
            i, d, j, e = cast.shared
            a, b = (dict(self.sources[k].entries) for k in (i, j))
            self.elements.union(a[d,], b[e,])
        self.seen: dict[tuple[int, int], Seen] = {}
        self._run_traced()
        for ids, multiple in self.trace.multiples:
            # What a kernel takes together goes together.
            together = ids[: len(ids) // multiple * multiple].reshape(-1, multiple)
            self.elements.union(together, together[:, :1])
        self.elements.resolve()
        self.frozen = self.elements.frozen()
        parts = [self.elements.parts(ids).ravel() for s in self.sources for _, ids in s.entries]
        roots = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *parts])).tolist()
        self.removable = np.array([r for r in roots if r >= 0 and r not in self.frozen], dtype=np.int64)

    # -- tracing
    def _source(self, k: int, x: Tensor, role: Role) -> Source:
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
        return Source(name, role, base, [(d, ids) for d, ids in entries if len(ids) > 1], shape)

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
            self.seen[step, slot] = Seen(tuple(x.shape), *known)

        def after(k: int, step: Step, changed: dict[int, Tensor]) -> None:
            for slot, x in changed.items():
                note(k, slot, x)

        with torch.no_grad(), mode, tracer:
            inputs = [x if tuple(x.shape) == s.shape else x.view(s.shape) for x, s in zip(inputs, self.sources)]
            for slot, x in enumerate(inputs):
                note(-1, slot, x)
            replay(self.tape, inputs, after=after)
