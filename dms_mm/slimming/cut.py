"""From kept elements to a structure: what a plan says about one hard choice."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ..mutables import all_live
from ..tracing import IntArray
from .plan import Plan, kept_of
from .structure import Structure, to_ranges


def plan_structure(plan: Plan, keep: IntArray, model: nn.Module, **notes: Any) -> Structure:
    """The structure that keeps the elements ``keep`` (N,) bool; ``notes`` are further fields of it."""
    removed = _removed(plan, keep)
    inside = tuple(path + '.' for path in removed)
    slices = _slices(plan, keep, inside)
    attributes = _layer_attributes(plan, keep, model, slices, inside)
    _set_stored_sizes(plan, keep, model, attributes, inside)
    return Structure(
        shapes={name: list(plan.shapes[name]) for name in slices},
        slices={name: {str(dim): to_ranges(kept) for dim, kept in dims.items()} for name, dims in slices.items()},
        scales=_scales(plan, keep, inside),
        folds=_folds(plan, removed),
        attributes=attributes,
        removed=removed,
        dropped=[path for path in removed if any(path == copy.block for copy in plan.copies)],
        outputs={path: plan.trace.outputs.get(path, 0) for path in removed if path in plan.trace.calling},
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


def _removed(plan: Plan, keep: IntArray) -> list[str]:
    """Removed blocks; a block inside a removed one goes with it."""
    removed = [path for path, element in plan.ownership.blocks if not keep[element]]
    return [path for path in removed if not any(path.startswith(other + '.') for other in removed)]


def _slices(plan: Plan, keep: IntArray, inside: tuple[str, ...]) -> dict[str, dict[int, IntArray]]:
    """Parameter -> dimension -> kept positions, where some go, outside of removed blocks."""
    result: dict[str, dict[int, IntArray]] = {}
    for name, owners in plan.owners.items():
        if name.startswith(inside):
            continue
        for dim, owner in enumerate(owners):
            if owner is not None:
                kept = np.flatnonzero(all_live(owner, keep))
                if len(kept) < len(owner):
                    result.setdefault(name, {})[dim] = kept
    return result


def _folds(plan: Plan, removed: list[str]) -> dict[str, list[list[Any]]]:
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
        path = name.rpartition('.')[0]
        groups = getattr(model.get_submodule(path), 'groups', None)
        if mode == 'groups' and groups and 0 in slices.get(name, {}):
            # The width of a group stays: fewer rows are fewer groups.
            attributes[path] = {'groups': int(groups) * len(slices[name][0]) // plan.shapes[name][0]}
    for path, (groups, ids) in plan.trace.group_norms.items():
        kept = int(plan.lives(ids, keep).sum())
        if not path.startswith(inside) and kept < len(ids):
            attributes[path] = {'num_groups': groups * kept // len(ids)}
    for path, (_, ids) in plan.trace.norms.items():
        module = model.get_submodule(path)
        if hasattr(module, 'normalized_shape') and not list(module.parameters()):
            attributes[path] = {'normalized_shape': [int(plan.lives(ids, keep).sum())]}
    return attributes


def _scales(plan: Plan, keep: IntArray, inside: tuple[str, ...]) -> dict[str, list[list[Any]]]:
    """What takes back in weights how numbers in the forward change; numbers of removed blocks are no more."""
    scales: dict[str, list[list[Any]]] = {}
    for scale in plan.scales:
        factor = scale.ratio(keep) ** -scale.sign
        if factor == 1.0 or all(_module_of(plan, place).startswith(inside) for place in scale.calls):
            continue
        for (name, dim), rows in scale.rows.items():
            if not name.startswith(inside):
                scales.setdefault(name, []).append([dim, to_ranges(rows), factor])
    return scales


def _module_of(plan: Plan, place: tuple[int, int, str]) -> str:
    mode, index, _ = place
    return plan.trace.calls[mode][index].module + '.'


def _set_stored_sizes(
    plan: Plan, keep: IntArray, model: nn.Module, attributes: dict[str, dict[str, Any]], inside: tuple[str, ...]
) -> None:
    """The plan's mends, outside of removed blocks, added to ``attributes``."""
    for mend in plan.mends:
        if f'{mend.module}.'.startswith(inside):
            continue
        own = attributes.setdefault(mend.module, {})
        kept = kept_of(mend.owners, mend.size, keep)
        if mend.index is None:
            own[mend.attribute] = kept
        else:
            pieces = list(own.get(mend.attribute, getattr(model.get_submodule(mend.module), mend.attribute)))
            pieces[mend.index] = kept
            own[mend.attribute] = pieces
