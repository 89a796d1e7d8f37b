"""Run a slim model on fake tensors and compare every operator with what the trace predicts.

A model may store sizes that tracing can't see (a split size, a head count for a reshape), or compute numbers from them
(the scale of attention). Where the slim forward departs, :mod:`.remedies` knows what to try.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..tracing.tracer import Call, Trace, Tracer, run_fake
from .plan import Plan
from .slim import build_slim
from .structure import Structure


def skeleton(model: nn.Module) -> nn.Module:
    """A deep copy whose parameters and buffers are on ``meta``: structure without memory."""
    memo: dict[int, Any] = {}
    for p in model.parameters():
        memo[id(p)] = nn.Parameter(torch.empty_like(p, device='meta'), requires_grad=p.requires_grad)
    for b in model.buffers():
        memo[id(b)] = torch.empty_like(b, device='meta')
    return copy.deepcopy(model, memo)


# Whether a reshape copies depends on strides, and they on sizes: copies are left out, and all reshapes are one.
COPIES = {'aten::clone', 'aten::contiguous', 'aten::detach', 'aten::alias', 'aten::lift_fresh'}
RESHAPES = {'aten::view', 'aten::_unsafe_view', 'aten::reshape', 'aten::_reshape_alias'}

REARRANGE = RESHAPES | {'aten::unsqueeze', 'aten::squeeze', 'aten::expand', 'aten::transpose', 'aten::permute'}
PRODUCTS = {'aten::mm', 'aten::addmm', 'aten::bmm'}


def counted(call: Call) -> bool:
    return bool(call.shapes) and not call.name.startswith('prim::') and call.name not in COPIES


def _same_name(a: str, b: str) -> bool:
    return a == b or (a in RESHAPES and b in RESHAPES)


def expected(plan: Plan, call: Call, keep: np.ndarray) -> list[tuple[int, ...] | None]:
    """Shapes of the outputs when ``keep`` lives; None where the living positions are no box."""
    shapes: list[tuple[int, ...] | None] = []
    for shape, entries in zip(call.shapes, call.axes):
        alive: list[np.ndarray] = [np.ones(size if entries else 0, dtype=bool) for size in shape]
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


@dataclass
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


def first_mismatch(
    plan: Plan,
    model: nn.Module,
    structure: Structure,
    keep: np.ndarray,
    inputs: Any,
    forward_fn: Callable[..., Any] | None = None,
    modes: int = 2,
) -> Mismatch | None:
    """Run the slim model on fake tensors; the first operator that is not as predicted, or None."""
    assert plan.trace is not None
    # Inside of norms the slim operators are others; their outputs are compared where they are used.
    skipped = tuple(path + '.' for path in [*structure.removed, *plan.trace.atomic]) or ('\0',)
    slim = build_slim(skeleton(model), structure)
    for mode, calls in enumerate(plan.trace.calls[:modes]):
        wanted = [(i, c) for i, c in enumerate(calls) if counted(c) and not (c.module + '.').startswith(skipped)]
        tracer = Tracer(Trace(), record_costs=False)
        problem = ''
        try:
            run_fake(slim, inputs, tracer, training=bool(mode), forward_fn=forward_fn)
        except Exception as error:
            problem = f'{type(error).__name__}: {error}'
        found = [c for c in tracer.calls if counted(c) and not (c.module + '.').startswith(skipped)]
        queue = list(reversed(wanted))
        i = wanted[0][0] if wanted else 0
        loose_add: str | None = None  # a module whose product may be followed by the sum with its bias
        left_out: tuple[int, Call] | None = None
        for have in found:
            # A copy of a single group, say, may be left out on either side.
            while queue and not _same_name(queue[-1][1].name, have.name) and queue[-1][1].name in REARRANGE:
                left_out = queue.pop()
            if not queue or (not _same_name(queue[-1][1].name, have.name) and have.name in REARRANGE):
                continue
            i, want = queue.pop()
            what = f'{want.name} in {want.module!r}'
            if want.name != have.name and want.name in PRODUCTS and have.name in PRODUCTS:
                # A linear layer picks its product by the strides of its input, with or without the bias in it.
                if queue and queue[-1][1].name == 'aten::add' and queue[-1][1].module == want.module:
                    queue.pop()
                loose_add = have.module if have.name != 'aten::addmm' else None
                continue
            bias = loose_add == have.module and have.name == 'aten::add'
            if bias and (want.name, want.module) != (have.name, have.module):
                queue.append((i, want))
                loose_add = None
                continue
            if have.name not in REARRANGE:
                loose_add = None
            if not _same_name(want.name, have.name):
                return Mismatch(mode, i, f'{have.name} runs instead of {what}')
            # Scratch outputs (saved statistics) carry no axes and may differ between devices.
            for shape, size, entries, loose in zip(have.shapes, expected(plan, want, keep), want.axes, want.free):
                if loose and size is not None and len(shape) == len(size):
                    size = tuple(h if d in loose else s for d, (h, s) in enumerate(zip(shape, size)))
                if shape != size and (entries or shape != (0,)):
                    # A copy that was left out before, and should not have been, shows its effect only here.
                    since = left_out is not None and left_out[1].module == want.module
                    place = left_out[0] if left_out is not None and since else i
                    message = f'{what} gives {shape} instead of {size or "a box"}'
                    return Mismatch(mode, place, message, failed=since)
            if not np.allclose(have.scalars, scaled(plan, mode, i, want, keep), rtol=1e-6):
                message = f'{what} gets {have.scalars} instead of {want.scalars}'
                return Mismatch(mode, i, message, have.scalars)
        if problem or any(c.name not in REARRANGE for _, c in queue):
            message = problem or f'the slim model stops before {queue[-1][1].name} in {queue[-1][1].module!r}'
            return Mismatch(mode, queue[-1][0] if queue else i, message, failed=bool(problem))
    return None


def scaled(plan: Plan, mode: int, index: int, call: Call, keep: np.ndarray) -> tuple[float, ...]:
    """The numbers that a call gets in the slim model, if they are the supernet's or known to depend on a size."""
    factor = 1.0
    for scale in plan.scales:
        if (mode, index) == scale.call:
            factor *= share_of(scale.owners, scale.size, keep) ** scale.exponent
    return tuple(value * factor for value in call.scalars)


def share_of(owners: list[np.ndarray], size: int, keep: np.ndarray) -> float:
    alive = np.append(keep, True)
    whole = np.ones(size, dtype=bool)
    for owner in owners:
        whole &= alive[owner].all(-1)
    return float(whole.sum()) / size
