"""Nothing is believed that was not run: masked and slim models are compared by numbers, and what differs is frozen.

Rules foresee what a forward does with its channels. What none of them foresaw shows here, on random weights, and costs
search space instead of exactness.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from ..mutables import DepthUnit, ExpertUnit, MutableUnit
from ..mutators.find import Found, Revision, find_again
from ..progress import Progress
from ..tracing import IntArray, first_batch
from ..tracing.process import collected
from .culprits import Comparison, take_out
from .plan import Plan
from .settle import Settled, settle
from .trials import random_keep
from .twins import Twins, random_copy

MOST_MACS = 2e10  # of a forward of the example; above it, a smaller one has to be given
MOST_TURNS = 16  # in which experts are the only ones
Forward = Callable[..., Any]


@dataclass(frozen=True)
class Proof:
    """What a comparison by numbers came to.

    Attributes:
        unproved: why there was none, or nothing.
        structures: how many were compared.
        seconds: what the comparisons took, those that found something included.
    """

    unproved: str = ''
    structures: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.unproved:
            return f'not proved by numbers: {self.unproved}'
        return f'proved by numbers: {self.structures} slim models equal the masked one, in {self.seconds:.1f} s'


def settle_proved(
    model: nn.Module, found: Found, inputs: Any, forward_fn: Forward | None = None, verify_inputs: Any = None
) -> tuple[Settled, Proof]:
    """A settled plan whose slim models compute what the masked model does, and what was seen of it.

    Args:
        verify_inputs: smaller inputs for the comparison.

    Raises:
        TraceError, ValueError: see :func:`~.settle.settle`.
    """
    notes: list[str] = []
    seconds = 0.0
    while True:
        settled = settle(model, found, inputs, forward_fn)
        notes += settled.notes
        start = time.perf_counter()
        outcome = prove(model, settled.plan, inputs, forward_fn, verify_inputs)
        seconds += time.perf_counter() - start
        if isinstance(outcome, Proof):
            return replace(settled, notes=tuple(notes)), replace(outcome, seconds=seconds)
        notes += outcome.notes
        found = find_again(model, settled.found, outcome)


@collected()
def prove(
    model: nn.Module, plan: Plan, inputs: Any, forward_fn: Forward | None = None, smaller: Any = None
) -> Proof | Revision:
    """Compare the slim models of some structures with the masked one, or say which units to take out.

    Everything at its least, or every other width; random structures; all blocks out, and either half of them; in eval
    mode and, where that was traced, in training mode; counts by torch's own counters. At most 20 forwards of
    ``inputs``, or of ``smaller`` ones, whose MACs are not compared; some more where experts are called by number.
    """
    as_traced = smaller is None
    data = inputs if as_traced else smaller
    reason = _unfit(model, plan, data, MOST_MACS if as_traced else float('inf'))
    if reason:
        return Proof(reason)
    try:
        twins = Twins(random_copy(model, plan), plan, data, forward_fn, as_traced)
    except Exception as error:
        return Proof(f'a copy of the model does not run on real numbers: {type(error).__name__}: {error}')
    if not any(x.numel() and bool(x.isfinite().any()) for x in twins.plain):
        return Proof('no output is a finite floating-point number')
    trials = list(proof_structures(plan.units, twins.trains))
    if plan.trace.numbered:
        trials += only_some_experts(plan.units)
    # What is counted wrongly in the whole model is the fault of no unit.
    whole = twins.miscounted_whole()
    for trial in Progress('slim models compared with the masked one', len(trials)).over(trials):
        if trial.training and not twins.trains:
            continue
        trial = replace(trial, counts=trial.counts and not whole)
        problem = twins.compare(trial.keep, trial.training, trial.counts)
        if problem:
            return take_out(twins, trial, problem) or Proof(f'even with nothing cut, {problem}')
    if whole:
        return Proof(f'of the whole model, {whole}', len(trials))
    return Proof('', len(trials))


def _unfit(model: nn.Module, plan: Plan, inputs: Any, limit: float) -> str:
    """Why a model can't be compared by numbers, or nothing."""
    tensors = [*model.parameters(), *model.buffers()]
    if any(x.is_meta for x in tensors):
        return 'the model is on the meta device'
    macs = sum(cost.factor * math.prod(size for size, _ in cost.dims) for cost in plan.trace.costs)
    if macs > limit:
        return (
            f'{macs:.1e} MACs are more than the {limit:.0e} that are done unasked; give a smaller example as '
            '`verify_inputs`'
        )
    return '' if first_batch(inputs) else 'the example is empty'


def proof_structures(units: Sequence[MutableUnit], trained: bool) -> Iterator[Comparison]:
    """The structures that a plan is proved by; widths whole where only blocks go."""
    depth = [unit for unit in units if isinstance(unit, DepthUnit)]
    whole = np.ones(sum(u.size for u in units), dtype=bool)

    def without(chosen: Callable[[int], bool]) -> IntArray:
        keep, place = whole.copy(), 0
        for unit in depth:
            for k in range(unit.size):
                place += 1
                keep[unit.start + k] = not chosen(place)
        return keep

    blocks = []
    if depth:
        blocks = [without(lambda place: place % 2 == 0), without(lambda place: place % 2 == 1)]
    # Counting takes kernels that torch's counter knows; the others are compared as they run.
    for keep in [_least(units), random_keep(units, 20, low=0.1), *([without(lambda place: True)] if depth else [])]:
        yield Comparison(keep, counts=True)
    # What hides where all is cut shows where a half is.
    for keep in [_least(units, 0, 2), *blocks]:
        yield Comparison(keep)
    if trained:
        yield Comparison(_least(units, 1, 2), training=True)
        widths = random_keep(units, 23, blocks=False)
        for keep in [widths & keep for keep in blocks] or [widths]:
            yield Comparison(keep, training=True)


def only_some_experts(units: Sequence[MutableUnit]) -> Iterator[Comparison]:
    """As few experts as can be, some after the other: a forward that numbers them may treat one in its own way, which
    shows where that one is chosen."""
    experts = [unit for unit in units if isinstance(unit, ExpertUnit)]
    order = np.random.default_rng(24)
    orders = [order.permutation(unit.size) for unit in experts]
    for turn in range(min(MOST_TURNS, max((-(-u.size // u.min_keep) for u in experts), default=0))):
        keep = np.ones(sum(u.size for u in units), dtype=bool)
        for unit, places in zip(experts, orders):
            keep[unit.start : unit.start + unit.size] = False
            keep[unit.start + np.take(places, range(turn * unit.min_keep, (turn + 1) * unit.min_keep), mode='wrap')] = (
                True
            )
        yield Comparison(keep)


def _least(units: Sequence[MutableUnit], begin: int = 0, step: int = 1) -> IntArray:
    """(N,) bool: every ``step``-th width at its least, at random positions; all blocks stay."""
    generator = np.random.default_rng(22)
    keep = np.ones(sum(u.size for u in units), dtype=bool)
    for unit in [unit for unit in units if not isinstance(unit, DepthUnit)][begin::step]:
        keep[unit.start + generator.permutation(unit.size)[unit.min_keep :]] = False
    return keep
