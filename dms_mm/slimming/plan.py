"""Which positions of which tensors belong to which element, and from kept elements to a structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..mutables import ChannelUnit, DepthUnit, MutableUnit
from ..resources.model import Dim, Term
from ..tracing import Trace
from ..tracing.elements import IntArray
from .structure import Structure, to_ranges


@dataclass
class Mend:
    """An attribute that stores a size: ``attribute[index]`` of ``module`` is the kept count of ``owner``."""

    module: str
    attribute: str
    index: int | None
    size: int
    owners: list[np.ndarray]


@dataclass
class Plan:
    """Per parameter and dimension the element of every position (-1: stays always), per shared tensor every name."""

    owners: dict[str, list[np.ndarray | None]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    grouped: dict[str, str] = field(default_factory=dict)
    blocks: list[tuple[str, int]] = field(default_factory=list)  # (block, its element)
    mends: list[Mend] = field(default_factory=list)
    lookup: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    trace: Trace | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Plan:
        return self  # fixed once the space is made

    def owner(self, ids: IntArray) -> np.ndarray:
        """Element of the bank of each id, -1 if it stays."""
        assert self.trace is not None
        return self.lookup[self.trace.elements.find(ids)]


def make_plan(trace: Trace, units: Sequence[MutableUnit], model: nn.Module) -> Plan:
    plan = Plan(trace=trace, grouped=dict(trace.grouped))
    plan.lookup = np.full(len(trace.elements), -1, dtype=np.int64)
    for unit in units:
        if isinstance(unit, ChannelUnit):
            for k, roots in enumerate(unit.roots):
                plan.lookup[trace.elements.find(roots)] = unit.start + k
        elif isinstance(unit, DepthUnit):
            plan.blocks += [(path, unit.start + k) for k, path in enumerate(unit.blocks)]
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    tensors.update(model.named_buffers())
    for name, dims in trace.params.items():
        owners: list[np.ndarray | None] = []
        for ids in dims:
            owner = plan.owner(ids)
            owners.append(owner if (owner >= 0).any() else None)
        plan.shapes[name] = tuple(tensors[name].shape)
        if any(o is not None for o in owners):
            plan.owners[name] = owners
    return plan


def block_elements(plan: Plan, path: str) -> list[int]:
    """Elements of the removable blocks that a module lies in."""
    return [e for block, e in plan.blocks if path == block or path.startswith(block + '.')]


def mac_terms(plan: Plan, batch: int) -> list[Term]:
    assert plan.trace is not None
    terms: list[Term] = []
    for cost in plan.trace.costs:
        dims: list[Dim] = []
        for size, lists in cost.dims:
            owners = [plan.owner(ids) for ids in lists]
            owners = [o for o in owners if (o >= 0).any()]
            if len(owners) > 1:
                raise NotImplementedError(f'compound dimension in {cost.module}')
            dims.append((size, owners[0] if owners else None))
        terms.append((cost.factor / batch, dims, block_elements(plan, cost.module)))
    return terms


def param_terms(plan: Plan, model: nn.Module) -> list[Term]:
    terms: list[Term] = []
    for name, x in model.named_parameters():
        owners = plan.owners.get(name) or [None] * x.ndim
        terms.append((1.0, list(zip(x.shape, owners)), block_elements(plan, name)))
    return terms


def plan_structure(
    plan: Plan,
    keep: np.ndarray,
    model: nn.Module,
    units: Mapping[str, MutableUnit],
) -> Structure:
    """The structure that keeps the elements ``keep`` (N,) bool."""
    alive = np.append(keep, True)  # index -1 stays
    removed = [path for path, element in plan.blocks if not keep[element]]
    # A block inside a removed one goes with it.
    removed = [p for p in removed if not any(p.startswith(q + '.') for q in removed)]
    structure = Structure(removed=removed, parameters=len(list(model.named_parameters())))
    inside = tuple(path + '.' for path in removed)
    kept_first: dict[str, int] = {}
    for name, owners in plan.owners.items():
        if name.startswith(inside) if inside else False:
            continue
        slices: dict[str, str] = {}
        for dim, owner in enumerate(owners):
            if owner is None:
                continue
            kept = np.flatnonzero(alive[owner])
            if dim == 0:
                kept_first[name] = len(kept)
            if len(kept) < len(owner):
                slices[str(dim)] = to_ranges(kept)
        if slices:
            structure.slices[name] = slices
            structure.shapes[name] = list(plan.shapes[name])
    for name, mode in plan.grouped.items():
        module = name.rpartition('.')[0]
        groups = getattr(model.get_submodule(module), 'groups', None)
        if mode == 'groups' and groups and '0' in structure.slices.get(name, {}):
            # The width of a group stays: fewer rows are fewer groups.
            structure.attributes[module] = {'groups': int(groups) * kept_first[name] // plan.shapes[name][0]}
    for mend in plan.mends:
        if mend.module in removed or (inside and mend.module.startswith(inside)):
            continue
        whole = np.ones(mend.size, dtype=bool)
        for owner in mend.owners:
            whole &= alive[owner]
        value: Any = int(whole.sum())
        if mend.index is not None:
            old = structure.attributes.get(mend.module, {}).get(mend.attribute)
            old = list(old if old is not None else getattr(model.get_submodule(mend.module), mend.attribute))
            old[mend.index] = value
            value = old
        structure.attributes.setdefault(mend.module, {})[mend.attribute] = value
    for unit in units.values():
        kept = np.flatnonzero(keep[unit.start : unit.start + unit.size])
        structure.units[unit.name] = {'kind': unit.kind, 'size': unit.size, 'keep': to_ranges(kept)}
    return structure
