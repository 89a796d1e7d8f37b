"""From a trace to the units of a search space, and to other units where trials of slim models object."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from ..mutables import DepthUnit, MutableUnit, check_ties_stay, settle_grids
from ..tracing import IntArray, Trace
from .blocks import close_gate, close_gates, find_depth_units
from .channels import find_channel_units, set_depth_units


@dataclass(frozen=True)
class UnitOptions:
    """What of a model is searched, and in what steps; see :func:`dms_mm.make_searchable`."""

    ignore: Sequence[str] = ()
    depth: bool = True
    attention: bool = True
    min_channels: int = 1
    step: int = 1
    round_to: int = 1
    units: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    blocks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """Units and the trace that they are of, in which what must stay is frozen.

    Attributes:
        blocks: depth units, those included that have no place in the bank.
        units: all units in the order of the bank.
        least: name of a width -> fewest elements that trials found it to need.
    """

    trace: Trace
    options: UnitOptions
    blocks: tuple[DepthUnit, ...]
    units: tuple[MutableUnit, ...]
    least: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Tie:
    """Positions that live and die together: ``left[i]``, and what is composed of ``part[i]`` of every ``right``."""

    left: IntArray
    right: tuple[IntArray, ...]


@dataclass(frozen=True)
class Revision:
    """What trials of slim models found that the trace doesn't say: units are found anew with it.

    Attributes:
        ties: positions that become one element.
        freezes: ids, and the reason why they stay.
        closes_gates: copies of removed blocks stay in concatenations.
        dropped: names of depth units that are none.
        fixed_blocks: blocks that can't be removed.
        raised: name of a width -> fewest elements that it keeps from now on.
        notes: for the report.
    """

    ties: Sequence[Tie] = ()
    freezes: Sequence[tuple[IntArray, str]] = ()
    closes_gates: bool = False
    dropped: Sequence[str] = ()
    fixed_blocks: Sequence[str] = ()
    raised: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def find_units(model: nn.Module, trace: Trace, options: UnitOptions) -> Found:
    """The units of a traced model; the trace stays as it is.

    Raises:
        ValueError: an option that matches nothing, or nothing to search; the message says why everything is frozen.
    """
    trace = _copied(trace)
    _tie_known_widths(model, trace)
    blocks = set_depth_units(find_depth_units(model, trace, options.blocks) if options.depth else [], options.units)
    return _placed(model, trace, options, blocks, {}, first=True)


def find_again(model: nn.Module, found: Found, revision: Revision) -> Found:
    """The units of the same model once ``revision`` is taken into account."""
    trace = _copied(found.trace)
    for tie in revision.ties:
        trace.elements.union(tie.left, trace.elements.fuse(tie.right))
    for ids, reason in revision.freezes:
        trace.elements.freeze(ids, reason)
    if revision.closes_gates:
        for gate in trace.gates.values():
            close_gate(trace.elements, gate)
    blocks = [unit for unit in found.blocks if unit.name not in revision.dropped]
    blocks = [unit for unit in (_without(unit, revision.fixed_blocks) for unit in blocks) if unit.size]
    now = _placed(model, trace, found.options, blocks, {**found.least, **revision.raised}, first=False)
    check_ties_stay(found.units, now.units)
    return now


def _without(unit: DepthUnit, fixed: Sequence[str]) -> DepthUnit:
    """A stage in which the blocks ``fixed`` are always there."""
    places = [k for k, path in enumerate(unit.blocks) if path not in fixed]
    if len(places) == unit.size:
        return unit
    blocks, carriers = [unit.blocks[k] for k in places], [unit.carriers[k] for k in places]
    gone = unit.size - len(places)
    least, most = max(0, unit.min_keep - gone), None if unit.max_keep is None else unit.max_keep - gone
    if most is not None and most < least:
        raise ValueError(f'unit {unit.name!r} keeps at most {unit.max_keep} blocks, but {gone} of it must stay')
    return replace(unit, size=len(places), min_keep=least, max_keep=most, blocks=blocks, carriers=carriers)


def _copied(trace: Trace) -> Trace:
    """The same trace with elements of its own, which alone are written to."""
    return replace(trace, elements=copy.deepcopy(trace.elements))


def _placed(
    model: nn.Module,
    trace: Trace,
    options: UnitOptions,
    blocks: Sequence[DepthUnit],
    least: Mapping[str, int],
    first: bool,
) -> Found:
    close_gates(model, trace, blocks)
    widths = find_channel_units(
        trace,
        ignore=options.ignore,
        step=options.step,
        min_channels=options.min_channels,
        round_to=options.round_to,
        overrides=options.units,
        attention=options.attention,
        strict=first,  # what an option named may have been frozen since
    )
    units = [*widths, *blocks]
    if not units:
        reasons = sorted(set(trace.elements.frozen().values()))
        raise ValueError(
            'nothing to search: every channel and block of the model is frozen\n' + '\n'.join(f'  {r}' for r in reasons)
        )
    placed = [copy.copy(unit) for unit in units]
    start = 0
    for index, unit in enumerate(placed):
        unit.index, unit.start, start = index, start, start + unit.size
        unit.min_keep = min(unit.size, max(unit.min_keep, least.get(unit.name, 0)))
    settle_grids(placed)
    return Found(trace, options, tuple(blocks), tuple(placed), least)


def _tie_known_widths(model: nn.Module, trace: Trace) -> None:
    """nn.MultiheadAttention takes ``num_heads * head_dim`` to be the width of its input, by definition."""
    for path, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention) and f'{path}.out_proj.weight' in trace.params:
            rows, columns = trace.params[f'{path}.out_proj.weight']
            trace.elements.union(columns, rows)
            for name in ('in_proj_weight', 'q_proj_weight'):
                if f'{path}.{name}' in trace.params:
                    rows, columns = trace.params[f'{path}.{name}']
                    trace.elements.union(rows[: len(columns)], columns)
    trace.elements.resolve()
