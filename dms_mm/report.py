"""What of a model is searched, what it costs, and why the rest stays, as text and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from .mutables import Ownership
from .reasons import remedy_of
from .registry import unknown
from .resources.terms import mac_terms, param_terms
from .slimming import Structure
from .slimming.plan import Plan
from .tracing import Trace


def searchable_share(
    model: nn.Module, trace: Trace, ownership: Ownership, resource: str = 'macs', by: str = 'units'
) -> float:
    """Share of the supernet's MACs (or ``'params'``) in operators that at least one unit can shrink.

    Args:
        by: ``'units'``, or ``'widths'``: in operators with a width that can shrink, whether or not their block can go.

    Raises:
        ValueError: another resource, or another ``by``.
    """
    if resource not in ('macs', 'params'):
        raise unknown('resource', resource, ('macs', 'params'), plural='resources with a searchable share')
    if by not in ('units', 'widths'):
        raise unknown('share by', by, ('units', 'widths'), plural='what a share may be by')
    terms = mac_terms(trace, ownership, 1) if resource == 'macs' else param_terms(trace, ownership, model)
    total = covered = 0.0
    for factor, dims, blocks in terms:
        if any(block < 0 for block in blocks):
            continue  # counts without a block alone
        value = factor * float(np.prod([size for size, _ in dims]))
        total += value
        if (blocks and by == 'units') or any(owner is not None for _, owner in dims):
            covered += value
    return covered / total if total else 0.0


def blockers(trace: Trace, most: int | None = None) -> dict[str, int]:
    """Why channels of parameters stay: reason -> how many channels it froze, the largest first."""
    elements = trace.elements
    frozen = elements.frozen()
    own = [np.unique(elements.find(ids)) for dims in trace.params.values() for ids in dims]
    # Places in heads are no channels themselves, and may stay where heads go.
    every = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *own]))
    inside = [parts for whole, parts in elements.origins if np.isin(elements.find(whole), every).any()]
    counts: dict[str, int] = {}
    seen: set[int] = set()
    for roots in [*own, *(np.unique(elements.find(parts[parts >= 0])) for parts in inside)]:
        for root in roots.tolist():
            if root in frozen and root not in seen:
                seen.add(root)
                counts[frozen[root]] = counts.get(frozen[root], 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return dict(ordered[:most])


def report(model: nn.Module, plan: Plan, structure: Structure, notes: Sequence[str] = ()) -> str:
    """Units and what ``structure`` keeps of them, counts, searchable share, and why the rest stays."""
    parts = (model, plan.trace, plan.ownership)
    share = {
        (kind, by): searchable_share(*parts, kind, by) for kind in ('macs', 'params') for by in ('units', 'widths')
    }
    counts: Mapping[str, float] = structure.resources
    strangled = structure.strangled()
    lines = [f'{len(plan.units)} units, {len(plan.ownership.units)} elements']
    lines.append(', '.join(f'{name} {count:,} of {structure.supernet[name]:,}' for name, count in counts.items()))
    for kind, name in (('macs', 'MACs'), ('params', 'parameters')):
        by_units, by_widths = share[kind, 'units'], share[kind, 'widths']
        lines.append(f'searchable share of the {name}: {by_units:.1%}, by widths alone {by_widths:.1%}')
    for unit in plan.units:
        flag = '  << under 5% of its width' if unit.name in strangled else ''
        flag = '  (in a removed block)' if structure.is_gone(unit.name) else flag
        known = structure.units[unit.name].get('confidence')
        flag = flag if known is None else f'  confidence {known:.2f}{flag}'
        lines.append(f'  {unit.kind:8} {unit.name:50} {structure.kept(unit.name):5d} / {unit.size}{unit.grid}{flag}')
    for reason, channels in blockers(plan.trace).items():
        lines.append(f'  frozen: {channels} channels: {reason}')
        lines.append(f'    {remedy_of(reason)}')
    lines += [f'  operator without a rule: {op} in {where}' for op, where in plan.trace.unknown.items()]
    lines += [f'  {note}' for note in [*notes, *plan.trace.notes]]
    return '\n'.join(lines)
