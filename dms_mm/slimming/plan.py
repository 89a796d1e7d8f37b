"""Which positions of which tensors belong to which element, and from kept elements to a structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..mutables import MutableUnit, Ownership, all_live, make_ownership
from ..mutators.blocks import readers_of
from ..tracing import IntArray, Trace
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
class Scale:
    """A factor ``(kept / size) ** exponent`` that a slim forward multiplies in, undone in the parameters ``rows``.

    Attention scales by the size of a head; the slim model must go on with the supernet's scale.
    """

    call: tuple[int, int]
    rows: dict[tuple[str, int], np.ndarray]
    owners: list[np.ndarray]
    size: int
    exponent: float  # of the number itself
    effect: float  # of what it does to the activation
    scaled: dict[tuple[str, int], np.ndarray]  # what makes the activation that is scaled; eval and train mode see it


@dataclass
class Copy:
    """Without ``block``, its columns of a weight, from ``start`` on, are added to those of what it would copy."""

    block: str
    parameter: str
    dim: int
    start: int
    source: int
    size: int


@dataclass
class Plan:
    """Per parameter and dimension the elements of every position, (n, K), -1 for none; a position lives if all do."""

    ownership: Ownership
    owners: dict[str, list[np.ndarray | None]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    grouped: dict[str, str] = field(default_factory=dict)
    copies: list[Copy] = field(default_factory=list)
    mends: list[Mend] = field(default_factory=list)
    scales: list[Scale] = field(default_factory=list)
    runs_on_meta: bool = True  # slim forwards can be compared on meta tensors
    trace: Trace | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Plan:
        return self  # fixed once the space is made

    def owner(self, ids: IntArray) -> np.ndarray:
        """(..., K) elements of the bank of each id, -1 for none."""
        return self.ownership.owner(ids)

    def calls_of(self, mode: int) -> dict[str, list[int]]:
        """Module -> the indices of its own calls in a traced mode."""
        assert self.trace is not None
        result: dict[str, list[int]] = {}
        for i, call in enumerate(self.trace.calls[mode]):
            result.setdefault(call.module, []).append(i)
        return result

    def lives(self, ids: IntArray, keep: np.ndarray) -> np.ndarray:
        """Bool of the shape of ``ids``: every element of it is in ``keep`` (N,)."""
        return self.ownership.lives(ids, keep)


def make_plan(trace: Trace, units: Sequence[MutableUnit], model: nn.Module) -> Plan:
    plan = Plan(make_ownership(trace, units), trace=trace, grouped=dict(trace.grouped))
    for path, _ in plan.ownership.blocks:
        if path in trace.gates and not trace.elements.is_frozen(trace.gates[path].id):
            gate = trace.gates[path]
            for name, dim in readers_of(trace, gate):
                plan.copies.append(Copy(path, name, dim, gate.start, gate.source, gate.size))
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


def tie_known_widths(trace: Trace, model: nn.Module) -> None:
    """nn.MultiheadAttention takes ``num_heads * head_dim`` to be the width of its input, by definition."""
    for path, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention) and f'{path}.out_proj.weight' in trace.params:
            trace.elements.union(trace.params[f'{path}.out_proj.weight'][1], trace.params[f'{path}.out_proj.weight'][0])
            for name in ('in_proj_weight', 'q_proj_weight'):
                if f'{path}.{name}' in trace.params:
                    rows, columns = trace.params[f'{path}.{name}']
                    trace.elements.union(rows[: len(columns)], columns)
    trace.elements.resolve()


def known_mends(plan: Plan, model: nn.Module) -> list[Mend]:
    """Attributes of nn.MultiheadAttention, so that they need not be found by trial."""
    assert plan.trace is not None
    mends = []
    for path, module in model.named_modules():
        line = plan.trace.params.get(f'{path}.out_proj.weight')
        if not isinstance(module, nn.MultiheadAttention) or line is None:
            continue
        grid = plan.owner(line[1]).reshape(module.num_heads, module.head_dim, -1)
        alone_h = (grid == grid[:, :1]).reshape(-1, grid.shape[-1]).all(0)
        alone_d = (grid == grid[:1]).reshape(-1, grid.shape[-1]).all(0)
        mends.append(Mend(path, 'embed_dim', None, module.embed_dim, [plan.owner(line[0])]))
        for name, key in (('kdim', 'k_proj_weight'), ('vdim', 'v_proj_weight')):
            params = plan.trace.params
            own = params[f'{path}.{key}'] if f'{path}.{key}' in params else params.get(f'{path}.in_proj_weight')
            if own is not None:
                mends.append(Mend(path, name, None, getattr(module, name), [plan.owner(own[1])]))
        if alone_h.any():
            mends.append(Mend(path, 'num_heads', None, module.num_heads, [grid[:, 0][:, alone_h]]))
        if alone_d.any():
            mends.append(Mend(path, 'head_dim', None, module.head_dim, [grid[0][:, alone_d]]))
    return [m for m in mends if any((o >= 0).any() for o in m.owners)]


def plan_structure(
    plan: Plan,
    keep: np.ndarray,
    model: nn.Module,
    units: Mapping[str, MutableUnit],
) -> Structure:
    """The structure that keeps the elements ``keep`` (N,) bool."""
    removed = [path for path, element in plan.ownership.blocks if not keep[element]]
    # A block inside a removed one goes with it.
    removed = [p for p in removed if not any(p.startswith(q + '.') for q in removed)]
    structure = Structure(removed=removed, parameters=len(list(model.named_parameters())))
    assert plan.trace is not None
    structure.outputs = {p: plan.trace.outputs.get(p, 0) for p in removed if p in plan.trace.calling}
    # The last block first: what it copies may be a copy itself.
    for copy in reversed(plan.copies):
        if copy.block in removed:
            ranges = [to_ranges(np.arange(copy.size) + first) for first in (copy.source, copy.start)]
            structure.folds.setdefault(copy.parameter, []).append([copy.dim, *ranges])
    structure.dropped = [p for p in removed if any(p == copy.block for copy in plan.copies)]
    inside = tuple(path + '.' for path in removed)
    kept_first: dict[str, int] = {}
    for name, owners in plan.owners.items():
        if name.startswith(inside) if inside else False:
            continue
        slices: dict[str, str] = {}
        for dim, owner in enumerate(owners):
            if owner is None:
                continue
            kept = np.flatnonzero(all_live(owner, keep))
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
    for path, (groups, ids) in plan.trace.group_norms.items():
        if not inside or not path.startswith(inside):
            kept_channels = int(plan.lives(ids, keep).sum())
            if kept_channels < len(ids):
                structure.attributes[path] = {'num_groups': groups * kept_channels // len(ids)}
    for path, (_, ids) in plan.trace.norms.items():
        module_ = model.get_submodule(path)
        if not list(module_.parameters()) and hasattr(module_, 'normalized_shape'):
            structure.attributes[path] = {'normalized_shape': [int(plan.lives(ids, keep).sum())]}
    done: set[tuple[Any, ...]] = set()
    for scale in plan.scales:
        whole = np.ones(scale.size, dtype=bool)
        for owner in scale.owners:
            whole &= all_live(owner, keep)
        factor = float(whole.sum() / scale.size) ** -scale.effect
        source = tuple((key, rows.tobytes()) for key, rows in scale.scaled.items())
        for (name, dim), rows in scale.rows.items():
            mark = (name, dim, rows.tobytes(), scale.effect, source)
            if factor != 1.0 and mark not in done and not (inside and name.startswith(inside)):
                done.add(mark)
                structure.scales.setdefault(name, []).append([dim, to_ranges(rows), factor])
    for mend in plan.mends:
        if mend.module in removed or (inside and mend.module.startswith(inside)):
            continue
        whole = np.ones(mend.size, dtype=bool)
        for owner in mend.owners:
            whole &= all_live(owner, keep)
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
