"""From kept elements to a structure: what a plan says about one hard choice."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from torch import nn

from ..mutables import all_live
from ..tracing import IntArray, layer_of
from .plan import Plan, kept_of
from .structure import Structure, to_ranges


def plan_structure(plan: Plan, keep: IntArray, model: nn.Module, renumber: bool = False, **notes: Any) -> Structure:
    """The structure that keeps the elements ``keep`` (N,) bool; ``notes`` are further fields of it."""
    removed = _removed(plan, keep)
    listed, copied = {path for path, _ in plan.ownership.experts}, {copy.block for copy in plan.copies}
    inside = tuple(name + '.' for path in removed.values() for name in plan.names(path))
    slices = _slices(plan, keep, inside)
    attributes = _layer_attributes(plan, keep, model, slices, inside)
    _set_stored_sizes(plan, keep, model, attributes, inside)
    return Structure(
        shapes={_alive(plan, name, inside): list(plan.shapes[name]) for name in slices},
        slices={
            _alive(plan, name, inside): {str(dim): to_ranges(kept) for dim, kept in dims.items()}
            for name, dims in slices.items()
        },
        scales=_scales(plan, keep, inside),
        folds=_folds(plan, removed),
        attributes=attributes,
        removed=list(removed),
        dropped=[name for name, path in removed.items() if path in listed or path in copied],
        renumber=renumber or list(dict.fromkeys(n.rpartition('.')[0] for n, path in removed.items() if path in listed)),
        outputs={name: plan.trace.outputs[path] for name, path in removed.items() if path in plan.trace.outputs},
        units={
            unit.name: {
                'kind': unit.kind,
                'size': unit.size,
                'keep': to_ranges(np.flatnonzero(keep[unit.start : unit.start + unit.size])),
            }
            for unit in plan.units
        },
        parameters=len(list(model.named_parameters())),
        **notes,
    )


def _removed(plan: Plan, keep: IntArray) -> dict[str, str]:
    """A name of each removed block, and its first one; a block inside a removed one goes with it."""
    gates = [*plan.ownership.blocks, *plan.ownership.experts]
    removed = [path for path, element in gates if not keep[element]]
    inside = tuple(name + '.' for path in removed for name in plan.names(path))
    names = {_alive(plan, path, inside): path for path in removed}
    return {name: path for name, path in names.items() if name is not None}


def _alive(plan: Plan, name: str, inside: tuple[str, ...]) -> Any:
    """The first name of a module or tensor that lies in no removed block, or None."""
    return next((other for other in plan.names(name) if not other.startswith(inside)), None)


def _slices(plan: Plan, keep: IntArray, inside: tuple[str, ...]) -> dict[str, dict[int, IntArray]]:
    """Parameter -> dimension -> kept positions, where some go, outside of removed blocks."""
    result: dict[str, dict[int, IntArray]] = {}
    for name, owners in plan.owners.items():
        if _alive(plan, name, inside) is None:
            continue
        for dim, owner in enumerate(owners):
            if owner is not None:
                kept = np.flatnonzero(all_live(owner, keep))
                if len(kept) < len(owner):
                    result.setdefault(name, {})[dim] = kept
    return result


def _folds(plan: Plan, removed: Collection[str]) -> dict[str, list[list[Any]]]:
    folds: dict[str, list[list[Any]]] = {}
    # The last block first: what it copies may be a copy itself.
    for copy in reversed(plan.copies):
        if copy.block in removed:
            ranges = [to_ranges(np.arange(copy.size) + first) for first in (copy.source, copy.start)]
            folds.setdefault(copy.parameter, []).append([copy.dim, *ranges])
    return folds


def _layer_attributes(
    plan: Plan,
    keep: IntArray,
    model: nn.Module,
    slices: dict[str, dict[int, IntArray]],
    inside: tuple[str, ...],
) -> dict[str, dict[str, Any]]:
    """Attributes of layers that no parameter tells: numbers of groups, and shapes of norms without parameters."""
    attributes: dict[str, dict[str, Any]] = {}
    for name, mode in plan.trace.grouped.items():
        alive = _alive(plan, name, inside)
        path = layer_of(alive or name)
        groups = getattr(model.get_submodule(path), 'groups', None)
        if mode == 'groups' and groups and 0 in slices.get(name, {}):
            # The width of a group stays: fewer rows are fewer groups.
            attributes[path] = {'groups': int(groups) * len(slices[name][0]) // plan.shapes[name][0]}
    for path, (groups, ids) in plan.trace.group_norms.items():
        kept = int(plan.lives(ids, keep).sum())
        alive = _alive(plan, path, inside)
        if alive is not None and kept < len(ids):
            attributes[alive] = {'num_groups': groups * kept // len(ids)}
    for path, (_, ids) in plan.trace.norms.items():
        module = model.get_submodule(path)
        alive = _alive(plan, path, inside)
        if hasattr(module, 'normalized_shape') and not list(module.parameters()) and alive is not None:
            attributes[alive] = {'normalized_shape': [int(plan.lives(ids, keep).sum())]}
    return attributes


def _scales(plan: Plan, keep: IntArray, inside: tuple[str, ...]) -> dict[str, list[list[Any]]]:
    """What takes back in weights how numbers in the forward change; numbers of removed blocks are no more."""
    scales: dict[str, list[list[Any]]] = {}
    for scale in plan.scales:
        factor = scale.ratio(keep) ** (-scale.sign * scale.part)
        if factor == 1.0 or all(_module_of(plan, place).startswith(inside) for place in scale.calls):
            continue
        for (name, dim), rows in scale.rows.items():
            alive = _alive(plan, name, inside)
            if alive is not None:
                scales.setdefault(alive, []).append([dim, to_ranges(rows), factor])
    return scales


def _module_of(plan: Plan, place: tuple[int, int, str]) -> str:
    mode, index, _ = place
    return plan.trace.calls[mode][index].module + '.'


def _set_stored_sizes(
    plan: Plan, keep: IntArray, model: nn.Module, attributes: dict[str, dict[str, Any]], inside: tuple[str, ...]
) -> None:
    """The plan's mends, outside of removed blocks, added to ``attributes``."""
    for mend in plan.mends:
        alive = mend.module if not f'{mend.module}.'.startswith(inside) else _alive(plan, mend.module, inside)
        if alive is None:
            continue
        own = attributes.setdefault(alive, {})
        kept = kept_of(mend.owners, mend.size, keep)
        if mend.index is None:
            own[mend.attribute] = kept
        else:
            pieces = list(own.get(mend.attribute, getattr(model.get_submodule(alive), mend.attribute)))
            pieces[mend.index] = kept
            own[mend.attribute] = pieces
