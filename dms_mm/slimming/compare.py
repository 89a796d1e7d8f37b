"""Run a slim model on fake tensors and compare every operator with what the trace predicts.

A model may store sizes that tracing can't see (a split size, a head count for a reshape), or compute numbers from them
(the scale of attention). Where the slim forward departs, :mod:`.remedies` knows what to try.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..tracing import Call, Entries, IntArray, Numbers, Trace, Tracer, forget, names_of, run_fake, run_meta
from ..tracing.numbers import LARGEST
from ..tracing.state import State
from .alike import same_numbers, told_of
from .cut import plan_structure
from .plan import Plan
from .shrink import shrink
from .skeleton import skeleton
from .trials import with_all_experts

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


def _large(call: Call, argument: str) -> bool:
    """A tensor too large for its values to be known."""
    return any(name == argument and math.prod(s) > LARGEST for name, s in zip(call.arguments, call.input_shapes))


def _but_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


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
    """Where a slim forward departs from the prediction: traced mode, index of its call, and the number it got.

    Attributes:
        argument, number: which argument is another number than the trace's, and the slim model's, None for none.
        failed: by an exception, of this operator or of one that it belongs to.
        raised: the module in which it was raised.
    """

    mode: int
    index: int
    message: str
    argument: str = ''
    number: Any = None
    failed: bool = False
    raised: str | None = None

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

    def __init__(self, plan: Plan, mode: int, keep: IntArray, skipped: tuple[str, ...], valued: bool) -> None:
        self.valued = valued  # tensors made of numbers have values
        self.plan, self.mode, self.keep, self.skipped = plan, mode, keep, skipped
        self.queue = [(i, c) for i, c in enumerate(plan.trace.calls[mode]) if self._looked_at(c)][::-1]
        self.place = self.queue[-1][0] if self.queue else 0
        self.loose_add: str | None = None  # a module whose product may be followed by the sum with its bias
        self.left_out: tuple[int, Call] | None = None
        self.moved_ones: str | None = None  # a module in which an einsum did
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
            if size is not None and _but_ones(shape) == _but_ones(size) != shape and self._moves_ones(want):
                return None
            if shape != size and (entries or (0,) not in (shape, size)):
                # A copy that was left out before, and should not have been, shows its effect only here.
                since = self.left_out is not None and self.left_out[1].module == want.module
                place = self.left_out[0] if self.left_out is not None and since else i
                message = f'{what} gives {shape} instead of {size or "a box"}'
                return Mismatch(mode, place, message, failed=since)
        if have.start != (start := begin_of(plan, want, keep)):
            return Mismatch(mode, i, f'{what} begins at {have.start} instead of {start}')
        if want.of_numbers and not self.valued:
            return None
        wanted = scaled(plan, mode, i, want, keep)
        for argument in dict.fromkeys([*wanted, *have.numbers]):
            a, b = have.numbers.get(argument), wanted.get(argument)
            if b is None and _large(want, argument.partition('[')[0]):
                continue  # of a smaller tensor the values are known
            if not same_numbers(a, b):
                message = f'{what} gets {told_of(a)} as {argument} instead of {told_of(want.numbers.get(argument))}'
                return Mismatch(mode, i, message, argument, a)
        return None

    def _moves_ones(self, call: Call) -> bool:
        """An einsum puts dimensions of one elsewhere, and its result back; what is in them has the same order."""
        if call.name == 'aten::permute':
            self.moved_ones = call.module
        return call.name in REARRANGE and self.moved_ones == call.module

    def end(self, problem: str, raised: str | None = None) -> Mismatch | None:
        """The result of a forward that ended, by an exception in module ``raised`` if there is a ``problem``."""
        if self.found is not None:
            return self.found
        place, last = self.queue[-1] if self.queue else (self.place, None)
        if problem:
            return Mismatch(self.mode, place, problem, failed=True, raised=raised)
        if last is not None and any(c.name not in REARRANGE for _, c in self.queue):
            return Mismatch(self.mode, place, f'the slim model stops before {last.name} in {last.module!r}')
        return None


def try_structure(
    plan: Plan,
    model: nn.Module,
    keep: IntArray,
    training: bool,
    inputs: Any,
    forward_fn: Callable[..., Any] | None,
    shared: State,
    on_meta: bool = True,
    told: Container[tuple[tuple[int, int], str]] = (),
) -> Verdict:
    """Run the slim model that keeps ``keep`` (N,), without data, in training or eval mode, against the plan's trace.

    Args:
        shared: what slim models share with the model.
        on_meta: look at a run on meta tensors first. They are fast and may fail by themselves, so only what fake
            tensors say counts against the model.
        told: places and messages of what fake tensors told before; meta tensors that say the same are believed.
    """
    if plan.trace.decisions:
        # Data decide which experts run; what runs without one of them only data can tell.
        keep = with_all_experts(plan.units, keep)
    structure = plan_structure(plan, keep, model)
    mode = int(training)
    # Inside of norms the slim operators are others; their outputs are compared where they are used.
    removed = [name for name, element in plan.ownership.named if not keep[element]]
    skipped = tuple(path + '.' for path in [*removed, *plan.trace.atomic]) or ('\0',)

    def compare(run: Callable[..., Any], valued: bool) -> Mismatch | None:
        comparison = _Comparison(plan, mode, keep, skipped, valued)
        # A model of its own for each: what a forward leaves in it is of the kind of its tensors.
        slim = shrink(forget(skeleton(model), plan.trace.caches.values()), structure)
        problem = ''
        tracer = Tracer(Trace(decisions=plan.trace.decisions, names=names_of(slim)), False, comparison)
        try:
            run(slim, inputs, tracer, training=training, forward_fn=forward_fn)
        except _DepartedError:
            pass
        except Exception as error:
            problem = f'{type(error).__name__}: {error}'
        # What raised an error has not ended: its path is still on the stack.
        return comparison.end(problem, tracer.ledger.where())

    quick = compare(functools.partial(run_meta, shared=shared), False) if on_meta else None
    if on_meta and quick is None:
        return Verdict(None, True)
    if quick is not None and (quick.place, quick.message) in told:
        return Verdict(quick, True)
    found = compare(run_fake, True)
    return Verdict(found, on_meta and quick is not None and found is not None and quick.place == found.place)


def scaled(plan: Plan, mode: int, index: int, call: Call, keep: IntArray) -> Numbers:
    """The numbers that a call gets in the slim model: the supernet's, but for those known to depend on a size.

    Of a table that carries elements what lives is left.
    """
    numbers = dict(call.numbers)
    for key, values in call.numbers.items():
        name, _, place = key.partition('[')
        tensors = [k for k, argument in enumerate(call.arguments) if argument == name]
        if np.ndim(values) and tensors:
            k = tensors[int(place[:-1]) if place else 0]
            if np.ndim(values) == len(call.input_shapes[k]):
                for d, size in enumerate(call.input_shapes[k]):
                    if values.shape[d] == size:
                        values = values.compress(living(plan, call.input_axes[k], d, size, keep), d)
                numbers[key] = values
    for scale in plan.scales:
        if (mode, index, scale.argument) in scale.calls:
            numbers[scale.argument] = numbers[scale.argument] * scale.ratio(keep)
    return numbers


def living(plan: Plan, entries: Entries, dim: int, size: int, keep: IntArray) -> IntArray:
    """(size,) bool: the positions of a dimension that live."""
    alive = np.ones(size, dtype=bool)
    for dims, ids in entries:
        if dim in dims:
            k = dims.index(dim)
            alive &= plan.lives(ids, keep).any(tuple(e for e in range(ids.ndim) if e != k))
    return alive


def begin_of(plan: Plan, call: Call, keep: IntArray) -> tuple[int, int, int] | None:
    """Where a slice begins when ``keep`` lives: behind what lives before it."""
    if call.start is None:
        return None
    dim, start, phase = call.start
    return dim, int(living(plan, call.input_axes[0], dim, call.input_shapes[0][dim], keep)[:start].sum()), phase
