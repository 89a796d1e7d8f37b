"""Attributes of modules that store sizes: known ones, those that a forward shows, and those that trials find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..mutables import ExpertUnit
from ..tracing import Call, IntArray
from .compare import Mismatch, counted
from .layers import name_problem
from .plan import Mend, Plan, Remedy
from .sizes import Owners, Size, Sizes, same_owners


def known_mends(plan: Plan, model: nn.Module) -> list[Mend]:
    """Attributes of nn.MultiheadAttention, so that they need not be found by trial."""
    mends = []
    params = plan.trace.params
    for path, module in model.named_modules():
        line = params.get(f'{path}.out_proj.weight')
        if not isinstance(module, nn.MultiheadAttention) or line is None:
            continue
        grid = plan.owner(line[1]).reshape(module.num_heads, module.head_dim, -1)
        alone_h = (grid == grid[:, :1]).reshape(-1, grid.shape[-1]).all(0)
        alone_d = (grid == grid[:1]).reshape(-1, grid.shape[-1]).all(0)
        mends.append(Mend(path, 'embed_dim', None, module.embed_dim, [plan.owner(line[0])]))
        for name, key in (('kdim', 'k_proj_weight'), ('vdim', 'v_proj_weight')):
            own = params[f'{path}.{key}'] if f'{path}.{key}' in params else params.get(f'{path}.in_proj_weight')
            if own is not None:
                mends.append(Mend(path, name, None, getattr(module, name), [plan.owner(own[1])]))
        if alone_h.any():
            mends.append(Mend(path, 'num_heads', None, module.num_heads, [grid[:, 0][:, alone_h]]))
        if alone_d.any():
            mends.append(Mend(path, 'head_dim', None, module.head_dim, [grid[0][:, alone_d]]))
    return [m for m in mends if any((o >= 0).any() for o in m.owners)]


def chosen_counts(plan: Plan, model: nn.Module) -> list[Mend]:
    """How many there are to choose from, where a module stores that: one that chooses, or has a row for each."""
    mends = []
    for unit in (unit for unit in plan.units if isinstance(unit, ExpertUnit)):
        line = np.arange(unit.start, unit.start + unit.size)[:, None]
        holders = {choice.module for choice in plan.trace.choices if _is_line(plan.owner(choice.ids), line)}
        others = set()
        for name, owners in plan.owners.items():
            path = name.rpartition('.')[0]
            for owner, size in zip(owners, plan.shapes[name]):
                if owner is not None and _is_line(owner, line):
                    holders.add(path)
                elif size == unit.size:
                    others.add(path)
        for path in sorted(holders - others):
            sizes = stored_sizes(model, path)
            mends += [Mend(path, name, index, n, [line]) for name, index, n in sizes if n == unit.size]
    return mends


def _is_line(owner: IntArray, line: IntArray) -> bool:
    """The positions of a dimension are the elements of a whole unit, in their order."""
    return np.array_equal(owner[:, (owner >= 0).any(0)], line)


def norm_widths(plan: Plan, model: nn.Module) -> list[Mend]:
    """The number of channels where a norm of its own class stores it, for ``F.layer_norm`` perhaps."""
    mends = []
    for path, (_, ids) in plan.trace.norms.items():
        # Torch's own follow their parameters.
        own = isinstance(model.get_submodule(path), (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm))
        for name, index, value in [] if own else stored_sizes(model, path):
            if value == len(ids) and (plan.owner(ids) >= 0).any():
                mends.append(Mend(path, name, index, value, [plan.owner(ids)]))
    return mends


def stated_widths(sizes: Sizes, model: nn.Module) -> list[Mend]:
    """``in_channels`` and ``out_channels`` of modules made of others, where a forward shows what they say.

    No forward may ever read them, but what comes after does: a reparametrised block builds its merged convolution
    from them.
    """
    inside: dict[str, list[Call]] = {}  # module -> calls of its own and of its submodules
    for call in sizes.trace.calls[0]:
        path = call.module
        while counted(call):
            inside.setdefault(path, []).append(call)
            if not path:
                break
            path = path.rpartition('.')[0]
    mends = []
    for path, module in model.named_modules():
        if 'weight' in module._parameters or path not in inside:
            continue
        for attribute, side, order in (
            ('in_channels', 'in', inside[path]),
            ('out_channels', 'out', inside[path][::-1]),
        ):
            value = vars(module).get(attribute)
            owners = _first_channels(sizes, order, side, value) if type(value) is int else None
            if owners is not None:
                mends.append(Mend(path, attribute, None, value, owners))
    return mends


def _first_channels(sizes: Sizes, calls: list[Call], side: str, value: int) -> Owners | None:
    """Elements of the channels of the first call that sees ``value`` of them."""
    for call in calls:
        for seen in sizes.at(call):
            if seen.role.side == side and seen.role.dim == 1 and seen.size == value:
                return seen.owners
    return None


@dataclass
class Rewrite:
    """What it would take that an attribute, in a module and its twins, holds a size that an operator sees."""

    mends: list[Mend]  # of attributes that no mend changes yet
    instead: list[Mend]  # of attributes that hold another size so far: these would replace those
    drop: list[Mend]
    others: list[tuple[Owners, Owners]]  # the other size, and this one


def rewrites(plan: Plan, sizes: Sizes, problem: Mismatch, path: str, ahead: int) -> Iterator[Rewrite]:
    """For every number that module ``path`` stores: sizes near the problem that it may be."""
    known = {(m.module, m.attribute, m.index): m for m in plan.mends}
    for name, index, value in stored_sizes(sizes.model, path):
        seen: list[Owners] = []
        for size in sizes.near(*problem.place, ahead):
            if isinstance(value, (tuple, list)) or size.size != value:
                continue
            if not any(same_owners(o, size.owners) for o in seen):
                seen.append(size.owners)
                yield _rewrite(known, sizes, problem, path, (name, index), size, ahead)


def _rewrite(
    known: dict[tuple[str, str, int | None], Mend],
    sizes: Sizes,
    problem: Mismatch,
    path: str,
    attribute: tuple[str, int | None],
    size: Size,
    ahead: int,
) -> Rewrite:
    name, index = attribute
    result = Rewrite([], [], [], [])
    for twin, at in sizes.holders(problem, path):
        there = next((s for s in sizes.near(problem.mode, at, ahead)[::-1] if s.role == size.role), None)
        if there is None or (name, index, there.size) not in stored_sizes(sizes.model, twin):
            continue
        mend, old = Mend(twin, name, index, there.size, there.owners), known.get((twin, name, index))
        if old is None:
            result.mends.append(mend)
        elif not same_owners(old.owners, there.owners):
            result.instead.append(mend)
            result.drop.append(old)
            result.others.append((old.owners, there.owners))
    return result


def piece_remedies(sizes: Sizes, call: Call, path: str) -> Iterator[Remedy]:
    """An attribute that lists the sizes of all outputs of an operator."""
    pieces = _pieces(sizes, call)
    for name, _, value in stored_sizes(sizes.model, path):
        if pieces and isinstance(value, (tuple, list)) and [size for size, _ in pieces] == list(value):
            yield Remedy([Mend(path, name, i, size, owners) for i, (size, owners) in enumerate(pieces)])


def _pieces(sizes: Sizes, call: Call) -> list[tuple[int, list[IntArray]]]:
    """Size and elements of each output of an operator with several, along the one dimension that is pruned."""
    found = {dims for entries in call.axes for dims, ids in entries if sizes.pruned(ids)}
    if len(call.shapes) < 2 or len(found) != 1 or len(next(iter(found))) != 1:
        return []
    ((dim,),) = found
    return [
        (shape[dim], [sizes.ownership.owner(ids) for dims, ids in entries if dims == (dim,)])
        for shape, entries in zip(call.shapes, call.axes)
    ]


def stored_sizes(model: nn.Module, path: str) -> list[tuple[str, int | None, Any]]:
    """(attribute, place in it, value) of every whole number that a module stores, and its sequences of them.

    What a structure file may not set is left out: a layer of torch may be given a number of somebody's own.
    """
    result: list[tuple[str, int | None, Any]] = []
    module = model.get_submodule(path)
    for name, value in vars(module).items():
        if name_problem(module, name):
            continue
        if type(value) is int:
            result.append((name, None, value))
        elif isinstance(value, (tuple, list)) and value and all(type(v) is int for v in value):
            result.append((name, None, value))
            result += [(name, i, v) for i, v in enumerate(value)]
    return result
