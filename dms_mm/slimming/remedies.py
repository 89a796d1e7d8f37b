"""What may bring a slim forward in line with the trace: attributes mended, numbers undone in weights, units tied."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from ..tracing import Call
from .check import Mismatch, counted, same_name, share_of
from .plan import Mend, Plan, Scale

# Where an operator sees a size: ('out' or 'in', which tensor, which dimension or -1 for ids over several, and how many
# calls further on: a reshape fails before the copy that it would make).
Role = tuple[str, int, int, int]
Rows = dict[tuple[str, int], np.ndarray]  # positions along a dimension of parameters


def sizes_near(plan: Plan, mode: int, index: int, ahead: int) -> list[tuple[Role, int, list[np.ndarray]]]:
    """Role, size in the supernet, and elements of every pruned size at a call and the next ones of its module."""
    return [
        ((*role, k), size, owners)
        for k, call in enumerate(_near(plan, mode, index, ahead))
        for role, size, owners in sizes_at(plan, call)
    ]


def _near(plan: Plan, mode: int, index: int, ahead: int) -> list[Call]:
    """A call and the next ``ahead`` of its module."""
    assert plan.trace is not None
    calls = plan.trace.calls[mode]
    own = plan.calls_of(mode)[calls[index].module]
    return [calls[i] for i in own if i >= index and counted(calls[i])][: 1 + ahead]


def sizes_at(plan: Plan, call: Call) -> list[tuple[tuple[str, int, int], int, list[np.ndarray]]]:
    result: list[tuple[tuple[str, int, int], int, list[np.ndarray]]] = []
    groups = (('out', call.shapes, call.axes), ('in', call.input_shapes, call.input_axes))
    for side, shapes, axes in groups:
        for t, (shape, entries) in enumerate(zip(shapes, axes)):
            for dim, size in enumerate(shape):
                owners = [
                    o
                    for dims, ids in entries
                    if dim in dims
                    for o in ([plan.owner(ids)] if len(dims) == 1 else _projected(plan, ids, dims.index(dim)))
                ]
                if any((o >= 0).any() for o in owners):
                    result.append(((side, t, dim), size, _normal(owners)))
            for dims, ids in entries:
                if len(dims) > 1 and (plan.owner(ids) >= 0).any():
                    result.append(((side, t, -1), ids.size, _normal([plan.owner(ids).reshape(ids.size, -1)])))
    return result


def stated_widths(plan: Plan, model: nn.Module) -> list[Mend]:
    """``in_channels`` and ``out_channels`` of modules made of others, where a forward shows what they say.

    No forward may ever read them, but what comes after does: a reparametrised block builds its merged convolution
    from them.
    """
    assert plan.trace is not None
    calls = [c for c in plan.trace.calls[0] if counted(c)]
    first: dict[str, list[Call]] = {}
    for call in calls:
        path = call.module
        while True:
            first.setdefault(path, []).append(call)
            if not path:
                break
            path = path.rpartition('.')[0]
    mends = []
    for path, module in model.named_modules():
        if 'weight' in module._parameters or path not in first:
            continue
        for attribute, side, order in (('in_channels', 'in', first[path]), ('out_channels', 'out', first[path][::-1])):
            value = vars(module).get(attribute)
            if type(value) is not int:
                continue
            for call in order:
                roles = sizes_at(plan, call)
                owners = next((o for role, n, o in roles if role[0] == side and role[2] == 1 and n == value), None)
                if owners is not None:
                    mends.append(Mend(path, attribute, None, value, owners))
                    break
    return mends


def _normal(owners: list[np.ndarray]) -> list[np.ndarray]:
    """One array of elements, without empty columns, in an order that does not depend on where they were seen."""
    whole = -np.sort(-np.concatenate(owners, 1), axis=1)
    return [whole[:, (whole >= 0).any(0)]]


def _projected(plan: Plan, ids: np.ndarray, axis: int) -> list[np.ndarray]:
    """Owners along one dimension of ids over several: the parts that depend on this dimension alone."""
    owner = plan.owner(ids)
    first = owner[tuple(slice(None) if e == axis else slice(0, 1) for e in range(ids.ndim))]
    same = (owner == first).reshape(-1, owner.shape[-1]).all(0)
    line = first.reshape(ids.shape[axis], -1)[:, same]
    return [line] if line.shape[1] and (line >= 0).any() else []


@dataclass
class Remedy:
    """What may bring the slim forward in line, for every module of the same class at once."""

    mends: list[Mend] = field(default_factory=list)
    scales: list[Scale] = field(default_factory=list)
    ties: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # ids that become one element
    drop: list[Mend] = field(default_factory=list)  # earlier mends that these replace
    drop_scales: list[Scale] = field(default_factory=list)

    def apply(self, plan: Plan) -> None:
        gone = {id(m) for m in self.drop}
        plan.mends = [m for m in plan.mends if id(m) not in gone]
        plan.mends += self.mends
        gone = {id(s) for s in self.drop_scales}
        plan.scales = [s for s in plan.scales if id(s) not in gone] + self.scales

    def undo(self, plan: Plan) -> None:
        if self.mends:
            del plan.mends[-len(self.mends) :]
        plan.mends += self.drop
        if self.scales:
            del plan.scales[-len(self.scales) :]
        plan.scales += self.drop_scales


def _twins(plan: Plan, model: nn.Module, mode: int, index: int, path: str) -> list[tuple[str, int]]:
    """(path, call) of every module of the class of ``path`` at the same point of its own forward, itself first."""
    assert plan.trace is not None
    calls = plan.trace.calls[mode]
    here = calls[index].module
    suffix = here[len(path) :] if path else ''
    by_module = plan.calls_of(mode)

    def like(path: str) -> list[int]:
        return [i for i in by_module.get(path, []) if same_name(calls[i].name, calls[index].name)]

    ordinal, among_like = by_module[here].index(index), like(here).index(index)
    kind = type(model.get_submodule(path)) if path else type(model)
    twins = [(path, index)]
    for other, module in model.named_modules():
        if type(module) is kind and other != path and other:
            own, alike = by_module.get(other + suffix, []), like(other + suffix)
            if ordinal < len(own) and calls[own[ordinal]].name == calls[index].name:
                twins.append((other, own[ordinal]))
            elif among_like < len(alike):
                # A block with shifted windows, say, rolls them first.
                twins.append((other, alike[among_like]))
    return twins


def remedies(plan: Plan, model: nn.Module, problem: Mismatch, keep: np.ndarray) -> Iterator[Remedy]:
    """What to try where a slim forward departs: numbers undone in weights, attributes mended, or units tied."""
    assert plan.trace is not None
    call = plan.trace.calls[problem.mode][problem.index]
    if problem.scalars is not None:
        yield from _scale_remedies(plan, model, problem, call, keep)
    known = {(m.module, m.attribute, m.index): m for m in plan.mends}
    path = call.module
    later: list[Remedy] = []
    single: list[Remedy] = []
    # An assert may guard anything that follows; a reshape fails before the copy that it would make.
    ahead = 40 if 'AssertionError' in problem.message else 2 * int(problem.failed)
    while True:
        for name, index, value in _stored_sizes(model, path):
            seen: list[list[np.ndarray]] = []
            for role, size, owners in sizes_near(plan, problem.mode, problem.index, ahead):
                if isinstance(value, (tuple, list)) or size != value:
                    continue
                if any(_same(o, owners) for o in seen):
                    continue
                seen.append(owners)
                mends, ties, drop, instead = [], [], [], []
                for twin, at in _twins(plan, model, problem.mode, problem.index, path):
                    there = {r: (s, o) for r, s, o in sizes_near(plan, problem.mode, at, ahead)}
                    if role not in there or (name, index, there[role][0]) not in _stored_sizes(model, twin):
                        continue
                    old = known.get((twin, name, index))
                    if old is None:
                        mends.append(Mend(twin, name, index, *there[role]))
                    elif not _same(old.owners, there[role][1]):
                        ties += _pairs(plan, old.owners, there[role][1])
                        drop.append(old)
                        instead.append(Mend(twin, name, index, *there[role]))
                if instead and not mends:
                    yield Remedy(mends=instead, drop=drop)
                if mends:
                    single.append(Remedy(mends=mends))
                    yield single[-1]
                elif ties:
                    later.append(Remedy(ties=ties))
        pieces = _piece_owners(plan, call)
        for name, _, value in _stored_sizes(model, path):
            if pieces and isinstance(value, (tuple, list)) and [size for size, _ in pieces] == list(value):
                yield Remedy(mends=[Mend(path, name, i, size, owners) for i, (size, owners) in enumerate(pieces)])
        # An attribute of the parent may hold it; further up numbers agree by chance.
        if not path or path != call.module:
            break
        path = path.rpartition('.')[0]
    # A reshape to heads and head dims may need both.
    for a, b in itertools.combinations(single[:8], 2):
        if {(m.module, m.attribute, m.index) for m in a.mends}.isdisjoint(
            (m.module, m.attribute, m.index) for m in b.mends
        ):
            yield Remedy(mends=a.mends + b.mends)
    yield from later
    ties = _width_ties(plan, model, problem.mode, problem.index, ahead)
    if ties:
        yield Remedy(ties=ties)


def _same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(map(np.array_equal, a, b))


def _pairs(plan: Plan, a: list[np.ndarray], b: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ids to tie so that two sizes become one."""
    x, y = np.concatenate(a, 1), np.concatenate(b, 1)
    x, y = x[:, (x >= 0).any(0)], y[:, (y >= 0).any(0)]
    if x.shape != y.shape or (x < 0).any() or (y < 0).any():
        return []
    left, right = plan.ownership.roots[x.ravel()], plan.ownership.roots[y.ravel()]
    # As many heads as positions in each are equal by chance.
    assert plan.trace is not None
    return [] if plan.trace.elements.composed(left, right) else [(left, right)]


def _width_ties(plan: Plan, model: nn.Module, mode: int, index: int, ahead: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ties of a module's input channels with what it reshapes to their number.

    Many attentions take ``heads * head_dim``, or their own output, to be as wide as their input: all shrink as one.
    """
    assert plan.trace is not None
    calls = plan.trace.calls[mode]
    path = calls[index].module
    ties = []
    for twin, at in _twins(plan, model, mode, index, path):
        for place in (twin, twin.rpartition('.')[0]):
            entries = (plan.trace.io.get(place) or (None, None))[0]
            lines = [ids for _, ids in entries[1] if ids.ndim == 1] if entries is not None else []
            found = [
                (line, other)
                for other in [*_head_pairs(plan, mode, at, ahead), *_lines(plan, mode, at, ahead)]
                for line in lines
                if len(line) == len(other) and not plan.trace.elements.same(line, other)
            ]
            if found:
                ties += found[:1]
                break
    return ties


def _lines(plan: Plan, mode: int, index: int, ahead: int) -> list[np.ndarray]:
    """Single dimensions that a call and the next ones of its module see, and that units prune."""
    return [
        ids
        for call in _near(plan, mode, index, ahead)
        for entries in [*call.axes, *call.input_axes]
        for _, ids in entries
        if ids.ndim == 1 and (plan.owner(ids) >= 0).any()
    ]


def _head_pairs(plan: Plan, mode: int, index: int, ahead: int) -> list[np.ndarray]:
    """Lines of ids composed of several elements, at a call and the next ones of its module."""
    assert plan.trace is not None
    result = []
    for call in _near(plan, mode, index, ahead):
        for entries in [*call.axes, *call.input_axes]:
            for _, ids in entries:
                # Of ids over heads, head dims and what lies before them (query, key, value): the last two.
                line = ids[(0,) * (ids.ndim - 2)].ravel() if ids.ndim > 1 else ids
                # Where head dims can't change, heads alone make up the line.
                if ids.ndim > 1 and (plan.owner(line) >= 0).any():
                    result.append(line)
            for d in {dims[0] for dims, _ in entries if len(dims) == 1}:
                lists = [ids for dims, ids in entries if dims == (d,)]
                if len(lists) == 2:
                    result.append(plan.trace.elements.fuse(lists))
    return result


def _stored_sizes(model: nn.Module, path: str) -> list[tuple[str, int | None, Any]]:
    """(attribute, place in it, value) of every whole number that a module stores, and its sequences of them."""
    module = model.get_submodule(path) if path else model
    result: list[tuple[str, int | None, Any]] = []
    for name, value in vars(module).items():
        if name.startswith('_') or name == 'training':
            continue
        if type(value) is int:
            result.append((name, None, value))
        elif isinstance(value, (tuple, list)) and value and all(type(v) is int for v in value):
            result.append((name, None, value))
            result += [(name, i, v) for i, v in enumerate(value)]
    return result


def _scale_remedies(plan: Plan, model: nn.Module, problem: Mismatch, call: Call, keep: np.ndarray) -> Iterator[Remedy]:
    assert plan.trace is not None and problem.scalars is not None
    have, want = problem.scalars, call.scalars
    if len(want) != 1 or len(have) != 1 or not want[0] or have[0] / want[0] <= 0:
        return
    # A number that was explained by another size before, whose share was the same by chance, is explained anew.
    ratio = have[0] / want[0]
    sign = -1.0 if call.name in ('aten::div', 'aten::div_') else 1.0
    own = plan.calls_of(problem.mode)[call.module]
    behind = own.index(problem.index)
    tried: list[list[np.ndarray]] = []
    # The size may have been seen earlier: scores are scaled after the product that contracted it.
    for back in range(behind + 1):
        for role, size, owners in sizes_at(plan, plan.trace.calls[problem.mode][own[behind - back]]):
            share = share_of(owners, size, keep)
            if share == 1 or any(_same(o, owners) for o in tried):
                continue
            tried.append(owners)
            exponent = next((e for e in (-0.25, 0.25, -0.5, 0.5, -1.0, 1.0) if abs(share**e - ratio) < 1e-6 * ratio), 0)
            if not exponent:
                continue
            scales = []
            for twin, at in _twins(plan, model, problem.mode, problem.index, call.module):
                there = plan.trace.calls[problem.mode][at]
                others = plan.calls_of(problem.mode)[twin]
                seen = plan.trace.calls[problem.mode][others[others.index(at) - back]]
                found = next(((s, o) for r, s, o in sizes_at(plan, seen) if r == role), None)
                k = next((k for k, e in enumerate(there.input_axes) if e), None)
                if found is None or k is None:
                    continue
                rows = _rows(plan, there.input_axes[k], there.makers[k] or frozenset())
                if rows:
                    keys = _multiplied(plan, others[others.index(at) :], problem.mode, rows) or rows
                    scales.append(Scale((problem.mode, at), keys, found[1], found[0], exponent, sign * exponent, rows))
            if scales:
                calls = {s.call for s in scales}
                yield Remedy(scales=scales, drop_scales=[s for s in plan.scales if s.call in calls])


def _multiplied(plan: Plan, calls: list[int], mode: int, rows: Rows) -> Rows:
    """Where the right operand of the next product with ``rows`` on a side is made: keys, whose scale is the score's.

    Queries may go elsewhere too, into a relative position bias for one, that no scale applies to.
    """
    assert plan.trace is not None
    for call in (plan.trace.calls[mode][i] for i in calls):
        if call.name == 'aten::bmm' and len(call.makers) == 2:
            left, right = (
                _rows(plan, axes, makers) if axes and makers else {}
                for axes, makers in zip(call.input_axes, call.makers)
            )
            if any(side and _same_rows(side, rows) for side in (left, right)):
                return right
    return {}


def _same_rows(a: Rows, b: Rows) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def _rows(plan: Plan, entries: list[Any], makers: frozenset[str]) -> Rows:
    """Positions of parameters that carry the elements of a tensor: of its makers, or of what was factored into it."""
    assert plan.trace is not None
    elements = plan.trace.elements
    if not entries:
        return {}
    raw = elements.wholes(np.concatenate([ids.ravel() for _, ids in entries]))
    # Exact ids tell queries from keys and values in one weight; a bias has the rows that it was added to.
    hits = np.zeros(len(elements), dtype=bool)
    hits[raw] = True
    raw = np.concatenate([raw, *(bias[hits[weight]] for weight, bias in plan.trace.biases)])
    hits[raw] = True
    rows: Rows = {}
    for name in sorted(makers, key=lambda n: -len(plan.shapes[n])):
        for d, line in enumerate(plan.trace.params[name]):
            hit = hits[line]
            if hit.any():
                rows[name, d] = np.flatnonzero(hit)
                break
    if rows:
        return rows
    hits[elements.find(raw)] = True
    for names in (makers, plan.trace.params):
        for name in names:
            for d, line in enumerate(plan.trace.params[name]):
                hit = hits[elements.find(line)]
                if hit.any() and (names is makers or (name, d) in plan.trace.producers or len(plan.shapes[name]) == 1):
                    rows[name, d] = np.flatnonzero(hit)
                    break
        if rows:
            return rows
    return {}


def _piece_owners(plan: Plan, call: Call) -> list[tuple[int, list[np.ndarray]]]:
    """Size and elements of each output of an operator with several, along the one dimension that is pruned."""
    found = {dims for entries in call.axes for dims, ids in entries if (plan.owner(ids) >= 0).any()}
    if len(call.shapes) < 2 or len(found) != 1 or len(next(iter(found))) != 1:
        return []
    ((dim,),) = found
    return [
        (shape[dim], [plan.owner(ids) for dims, ids in entries if dims == (dim,)])
        for shape, entries in zip(call.shapes, call.axes)
    ]
