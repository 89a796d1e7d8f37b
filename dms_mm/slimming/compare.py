"""Run a slim model on fake tensors and compare every operator with what the trace predicts.

A model may store sizes that tracing can't see (a split size, a head count for a reshape), or compute numbers from them
(the scale of attention). Where the slim forward departs, :mod:`.remedies` knows what to try.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..tracing import Call, IntArray, Trace, Tracer, names_of, run_fake, run_meta
from .cut import plan_structure
from .plan import Plan, kept_of
from .shrink import shrink
from .skeleton import skeleton

# Whether a reshape copies depends on strides, and they on sizes: copies are left out, and all reshapes are one.
# A number that fills a slice is a tensor first on some devices.
COPIES = {'aten::clone', 'aten::contiguous', 'aten::detach', 'aten::alias', 'aten::lift_fresh', 'aten::scalar_tensor'}
RESHAPES = {'aten::view', 'aten::_unsafe_view', 'aten::reshape', 'aten::_reshape_alias'}

FILLS = {'aten::fill_', 'aten::copy_'}
REARRANGE = RESHAPES | {'aten::unsqueeze', 'aten::squeeze', 'aten::expand', 'aten::transpose', 'aten::permute'}
PRODUCTS = {'aten::mm', 'aten::addmm', 'aten::bmm'}


def counted(call: Call) -> bool:
    """Whether an operator is looked at."""
    return bool(call.shapes) and not call.name.startswith('prim::') and call.name not in COPIES


def same_name(a: str, b: str) -> bool:
    return a == b or (a in RESHAPES and b in RESHAPES) or (a in FILLS and b in FILLS)


def expected(plan: Plan, call: Call, keep: IntArray) -> list[tuple[int, ...] | None]:
    """Shapes of the outputs when ``keep`` lives; None where the living positions are no box."""
    shapes: list[tuple[int, ...] | None] = []
    for shape, entries in zip(call.shapes, call.axes):
        alive: list[IntArray] = [np.ones(size if entries else 0, dtype=bool) for size in shape]
        box = True
        for dims, ids in entries:
            lives = plan.lives(ids, keep)
            for k, d in enumerate(dims):
                alive[d] &= lives.any(tuple(e for e in range(ids.ndim) if e != k))
            if len(dims) > 1:
                sides = [lives.any(tuple(e for e in range(ids.ndim) if e != k)).sum() for k in range(ids.ndim)]
                box &= int(lives.sum()) == int(np.prod(sides))
        shapes.append(tuple(int(a.sum()) for a in alive) if box and entries else shape if box else None)
    return shapes


@dataclass(frozen=True)
class Mismatch:
    """Where a slim forward departs from the prediction: traced mode, index of its call, and the numbers it got."""

    mode: int
    index: int
    message: str
    scalars: tuple[float, ...] | None = None
    failed: bool = False  # by an exception, of this operator or of one that it belongs to

    @property
    def place(self) -> tuple[int, int]:
        return self.mode, self.index


@dataclass(frozen=True)
class Verdict:
    """What a trial found: the first unpredicted operator, or None, and whether runs on meta tensors say the same."""

    mismatch: Mismatch | None
    meta_agrees: bool


class _DepartedError(Exception):
    """Ends a slim forward at the first operator that is not as predicted."""


class _Comparison:
    """Takes a slim forward's operators one by one and tells the first that is not as predicted."""

    def __init__(self, plan: Plan, mode: int, keep: IntArray, skipped: tuple[str, ...]) -> None:
        self.plan, self.mode, self.keep, self.skipped = plan, mode, keep, skipped
        self.queue = [(i, c) for i, c in enumerate(plan.trace.calls[mode]) if self._looked_at(c)][::-1]
        self.place = self.queue[-1][0] if self.queue else 0
        self.loose_add: str | None = None  # a module whose product may be followed by the sum with its bias
        self.left_out: tuple[int, Call] | None = None
        self.found: Mismatch | None = None

    def _looked_at(self, call: Call) -> bool:
        return counted(call) and not (call.module + '.').startswith(self.skipped)

    def __call__(self, have: Call) -> None:
        if self.found is None and self._looked_at(have):
            self.found = self._compare(have)
        if self.found is not None:
            raise _DepartedError

    def _compare(self, have: Call) -> Mismatch | None:
        plan, mode, keep, queue = self.plan, self.mode, self.keep, self.queue
        # A copy of a single group, say, may be left out on either side.
        while queue and not same_name(queue[-1][1].name, have.name) and queue[-1][1].name in REARRANGE:
            self.left_out = queue.pop()
        if not queue or (not same_name(queue[-1][1].name, have.name) and have.name in REARRANGE):
            return None
        self.place, want = queue.pop()
        i = self.place
        what = f'{want.name} in {want.module!r}'
        if want.name != have.name and want.name in PRODUCTS and have.name in PRODUCTS:
            # A linear layer picks its product by the strides of its input, with or without the bias in it.
            if queue and queue[-1][1].name == 'aten::add' and queue[-1][1].module == want.module:
                queue.pop()
            self.loose_add = have.module if have.name != 'aten::addmm' else None
            return None
        bias = self.loose_add == have.module and have.name == 'aten::add'
        if bias and (want.name, want.module) != (have.name, have.module):
            queue.append((i, want))
            self.loose_add = None
            return None
        if have.name not in REARRANGE:
            self.loose_add = None
        if not same_name(want.name, have.name):
            return Mismatch(mode, i, f'{have.name} runs instead of {what}')
        # Scratch outputs (saved statistics) carry no axes and may differ between devices.
        for shape, size, entries, loose in zip(have.shapes, expected(plan, want, keep), want.axes, want.free):
            if loose and size is not None and len(shape) == len(size):
                size = tuple(h if d in loose else s for d, (h, s) in enumerate(zip(shape, size)))
            if shape != size and (entries or (0,) not in (shape, size)):
                # A copy that was left out before, and should not have been, shows its effect only here.
                since = self.left_out is not None and self.left_out[1].module == want.module
                place = self.left_out[0] if self.left_out is not None and since else i
                message = f'{what} gives {shape} instead of {size or "a box"}'
                return Mismatch(mode, place, message, failed=since)
        if have.scalars and not np.allclose(have.scalars, scaled(plan, mode, i, want, keep), rtol=1e-6):
            message = f'{what} gets {have.scalars} instead of {want.scalars}'
            return Mismatch(mode, i, message, have.scalars)
        return None

    def end(self, problem: str) -> Mismatch | None:
        """The result of a forward that ended, by an exception if there is a ``problem``."""
        if self.found is not None:
            return self.found
        place, last = self.queue[-1] if self.queue else (self.place, None)
        if problem:
            return Mismatch(self.mode, place, problem, failed=True)
        if last is not None and any(c.name not in REARRANGE for _, c in self.queue):
            return Mismatch(self.mode, place, f'the slim model stops before {last.name} in {last.module!r}')
        return None


def try_structure(
    plan: Plan,
    model: nn.Module,
    keep: IntArray,
    training: bool,
    inputs: Any,
    forward_fn: Callable[..., Any] | None = None,
    on_meta: bool = True,
) -> Verdict:
    """Run the slim model that keeps ``keep`` (N,), without data, in training or eval mode, against the plan's trace.

    Args:
        on_meta: look at a run on meta tensors first. They are fast and may fail by themselves, so only what fake
            tensors say counts against the model.
    """
    structure = plan_structure(plan, keep, model)
    mode = int(training)
    # Inside of norms the slim operators are others; their outputs are compared where they are used.
    removed = [name for name, element in plan.ownership.named if not keep[element]]
    skipped = tuple(path + '.' for path in [*removed, *plan.trace.atomic]) or ('\0',)

    def compare(run: Callable[..., Any]) -> Mismatch | None:
        comparison = _Comparison(plan, mode, keep, skipped)
        # A model of its own for each: what a forward leaves in it is of the kind of its tensors.
        slim = shrink(skeleton(model), structure)
        problem = ''
        try:
            tracer = Tracer(Trace(names=names_of(slim)), False, comparison)
            run(slim, inputs, tracer, training=training, forward_fn=forward_fn)
        except _DepartedError:
            pass
        except Exception as error:
            problem = f'{type(error).__name__}: {error}'
        return comparison.end(problem)

    quick = compare(run_meta) if on_meta else None
    if on_meta and quick is None:
        return Verdict(None, True)
    found = compare(run_fake)
    return Verdict(found, on_meta and quick is not None and found is not None and quick.place == found.place)


def scaled(plan: Plan, mode: int, index: int, call: Call, keep: IntArray) -> tuple[float, ...]:
    """The numbers that a call gets in the slim model, if they are the supernet's or known to depend on a size."""
    factor = 1.0
    for scale in plan.scales:
        if (mode, index) == scale.call:
            factor *= (kept_of(scale.owners, scale.size, keep) / scale.size) ** scale.exponent
    return tuple(value * factor for value in call.scalars)
