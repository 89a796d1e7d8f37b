"""Run a slim model on fake tensors and compare every operator's shape with what the trace predicts.

A model may store sizes that tracing can't see (a split size, a channel count for a reshape). Such an attribute is
mended when setting it to the predicted size makes the forward agree; otherwise the units at that operator are frozen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ..tracing.tracer import Call, Trace, Tracer, run_fake
from .plan import Mend, Plan
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


def _counted(call: Call) -> bool:
    return bool(call.shapes) and not call.name.startswith('prim::')


def expected(plan: Plan, call: Call, alive: np.ndarray) -> list[tuple[int, ...]]:
    shapes = []
    for shape, axes in zip(call.shapes, call.axes):
        sizes = list(shape)
        for dim in range(len(shape)):
            lists = [ids for d, ids in axes if d == dim]
            if lists:
                keep = np.ones(shape[dim], dtype=bool)
                for ids in lists:
                    keep &= alive[plan.owner(ids)]
                sizes[dim] = int(keep.sum())
        shapes.append(tuple(sizes))
    return shapes


def first_mismatch(
    plan: Plan,
    model: nn.Module,
    structure: Structure,
    keep: np.ndarray,
    inputs: Any,
    forward_fn: Callable[..., Any] | None = None,
) -> tuple[int, int, str] | None:
    """(traced mode, index of its call, message) where the slim forward departs from the prediction, or None."""
    assert plan.trace is not None
    alive = np.append(keep, True)
    removed = tuple(path + '.' for path in structure.removed)
    slim = build_slim(skeleton(model), structure)
    for mode, calls in enumerate(plan.trace.calls):
        wanted = [
            (i, c) for i, c in enumerate(calls) if _counted(c) and not (c.module + '.').startswith(removed or ('\0',))
        ]
        tracer = Tracer(Trace(), record_costs=False)
        problem = ''
        try:
            run_fake(slim, inputs, tracer, training=bool(mode), forward_fn=forward_fn)
        except Exception as error:
            problem = f'{type(error).__name__}: {error}'
        found = [c for c in tracer.calls if _counted(c)]
        for (i, want), have in zip(wanted, found):
            if want.name != have.name:
                return mode, i, f'{have.name} runs instead of {want.name} in {want.module!r}'
            sizes = expected(plan, want, alive)
            # Scratch outputs (saved statistics) carry no axes and may differ between devices.
            for shape, size, axes in zip(have.shapes, sizes, want.axes):
                if shape != size and (axes or shape != (0,)):
                    return mode, i, f'{want.name} in {want.module!r} gives {shape} instead of {size}'
        if problem or len(found) != len(wanted):
            i = wanted[min(len(found), len(wanted) - 1)][0]
            return mode, i, problem or f'the slim model runs {len(found)} operators instead of {len(wanted)}'
    return None


def candidates(plan: Plan, model: nn.Module, call: Call) -> list[list[Mend]]:
    """Attributes of the failing module that hold a size seen at the failing operator; each a set of mends to try.

    A sequence that lists the sizes of all outputs (a split's) is mended as a whole.
    """
    sizes: list[tuple[int, list[np.ndarray]]] = []
    shapes = [*zip(call.shapes, call.axes), *zip(call.input_shapes, call.input_axes)]
    for shape, axes in shapes:
        for dim, size in enumerate(shape):
            owners = [plan.owner(ids) for d, ids in axes if d == dim]
            if any((o >= 0).any() for o in owners):
                sizes.append((size, owners))
    module = model.get_submodule(call.module) if call.module else model
    pieces = _piece_owners(plan, call)
    mends: list[list[Mend]] = []
    for name, value in vars(module).items():
        if name.startswith('_') or name == 'training':
            continue
        entries: list[tuple[int | None, Any]] = [(None, value)]
        if isinstance(value, (tuple, list)):
            entries = list(enumerate(value))
            if pieces and [size for size, _ in pieces] == list(value):
                mends.append([Mend(call.module, name, i, size, owners) for i, (size, owners) in enumerate(pieces)])
        for index, entry in entries:
            if type(entry) is not int:
                continue
            seen: list[list[np.ndarray]] = []
            for size, owners in sizes:
                known = any(len(o) == len(owners) and all(map(np.array_equal, o, owners)) for o in seen)
                if size == entry and not known:
                    seen.append(owners)
                    mends.append([Mend(call.module, name, index, size, owners)])
    return mends


def _piece_owners(plan: Plan, call: Call) -> list[tuple[int, list[np.ndarray]]]:
    """Size and elements of each output of an operator with several, along the one dimension that is pruned."""
    dims = {d for axes in call.axes for d, ids in axes if (plan.owner(ids) >= 0).any()}
    if len(call.shapes) < 2 or len(dims) != 1:
        return []
    (dim,) = dims
    return [
        (shape[dim], [plan.owner(ids) for d, ids in axes if d == dim]) for shape, axes in zip(call.shapes, call.axes)
    ]
