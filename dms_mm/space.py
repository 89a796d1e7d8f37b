"""``make_searchable`` and the search space it returns (DESIGN 5)."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from .mutables import ChannelUnit, DepthUnit, MutableUnit
from .mutators.blocks import close_gate, close_gates, find_depth_units
from .mutators.channels import find_channel_units
from .mutators.fold import (
    Compact,
    Fold,
    MaskedConvolution,
    MaskedNorm,
    OutputMask,
    fold_of,
    install,
    strip,
)
from .reasons import remedy_of
from .resources import ResourceModel
from .resources.terms import mac_terms, param_terms
from .slimming.check import Mismatch, first_mismatch
from .slimming.plan import (
    Plan,
    known_mends,
    make_plan,
    plan_structure,
    tie_known_widths,
)
from .slimming.remedies import Remedy, remedies, stated_widths
from .slimming.slim import build_slim
from .slimming.structure import Structure
from .topk import TopkBank
from .tracing import Trace, TraceError, first_batch, trace


class SearchSpace:
    """The units of a model, their masks, and what a choice of them costs. Made by :func:`make_searchable`.

    Attributes:
        model: the searchable model; its class, parameters and ``state_dict`` keys are what they were.
        units: ordered dict from name to :class:`MutableUnit`.
        bank: the :class:`TopkBank` that holds ratios, importances and masks.
        counters: resource name -> differentiable :class:`ResourceModel`.
        frozen: notes on what was found unsafe to prune by the check after tracing.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        units: Sequence[MutableUnit],
        bank: TopkBank,
        counters: dict[str, ResourceModel],
        frozen: list[str],
    ) -> None:
        self.model = model
        self.plan = plan
        self.units: OrderedDict[str, MutableUnit] = OrderedDict((u.name, u) for u in units)
        self.bank = bank
        self.counters = counters
        self.frozen = frozen
        full = torch.ones(len(bank.segment), dtype=torch.bool, device=bank.keep.device)
        self.supernet = {name: counter.count(full, bank) for name, counter in counters.items()}

    # -- masks
    def set_keep(self, keep: Mapping[str, Tensor | Sequence[bool] | int]) -> None:
        """Harden units: a bool mask (size,) or a count, of which the most important are kept.

        Raises:
            KeyError: unknown unit. ValueError: wrong shape, or a count outside of the unit's bounds.
        """
        for name, value in keep.items():
            unit = self._unit(name)
            if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
                low, high = unit.bounds()
                if not low <= value <= high:
                    raise ValueError(f'unit {name!r} keeps {low} to {high} of its elements, not {value}')
                rank = self.bank.rank[unit.start : unit.start + unit.size]
                mask = torch.zeros(unit.size, dtype=torch.bool, device=rank.device)
                mask[torch.topk(rank, int(value)).indices] = True
            else:
                mask = torch.as_tensor(value)
                if mask.dtype != torch.bool or tuple(mask.shape) != (unit.size,):
                    raise ValueError(f'the mask of unit {name!r} must be bool of shape ({unit.size},)')
                if int(mask.sum()) < unit.min_keep:
                    raise ValueError(f'unit {name!r} keeps at least {unit.min_keep} elements')
            self.bank.harden(unit.index, mask)

    def mask(self, name: str) -> Tensor:
        """The present mask of a unit, (size,)."""
        unit = self._unit(name)
        return self.bank.leaves[unit.index].detach().clone()

    @torch.no_grad()
    def l1_scores(self) -> Tensor:
        """(N,) L1 norms of the weights that produce each element, an importance that needs no gradient (table 6).

        A block's score is the L1 norm of what carries its mask, or of all its weights where nothing affine does.
        """
        assert self.plan.trace is not None
        parameters = dict(self.model.named_parameters())
        scores = torch.zeros_like(self.bank.importance)
        for name, dim in self.plan.trace.producers:
            owner = (self.plan.owners.get(name) or [None] * (dim + 1))[dim]
            if owner is None:
                continue
            weight = parameters[name].detach().abs()
            norms = weight.sum([d for d in range(weight.ndim) if d != dim]).to(scores.dtype)
            for column in owner.T:
                inside = torch.from_numpy(column >= 0)
                index = torch.from_numpy(column[column >= 0]).to(scores.device)
                scores.index_add_(0, index, norms[inside.to(norms.device)])
        for unit in self.units.values():
            if isinstance(unit, DepthUnit):
                for k, block in enumerate(unit.blocks):
                    ends = list(unit.carriers[k].values())
                    carry = [parameters[name] for names in ends for name in names]
                    if not all(ends):
                        carry = list(self.model.get_submodule(block).parameters())
                    scores[unit.start + k] = sum(p.abs().sum() for p in carry)
        return scores

    def _unit(self, name: str) -> MutableUnit:
        if name not in self.units:
            raise KeyError(f'no unit {name!r}; units are: {", ".join(self.units)}')
        return self.units[name]

    # -- resources
    def resources(self) -> dict[str, int]:
        """Counts of the present hard structure, per sample."""
        keep = self.bank.hard_keep()
        return {name: counter.count(keep, self.bank) for name, counter in self.counters.items()}

    def soft_resource(self, name: str) -> Tensor:
        """() float64 scalar: the present hard count with the soft gradient (section 3.2)."""
        if name not in self.counters:
            raise KeyError(f'no resource {name!r}; resources are: {", ".join(self.counters)}')
        return self.counters[name](self.bank)

    # -- structure
    def structure(self, renumber: bool = False) -> Structure:
        """The present hard structure; with ``renumber``, kept blocks of a slim model are numbered from 0 on."""
        keep = self.bank.hard_keep().cpu().numpy()
        structure = plan_structure(self.plan, keep, self.model, self.units)
        structure.renumber = renumber
        structure.resources = dict(self.resources())
        structure.supernet = dict(self.supernet)
        return structure

    def slim(self, renumber: bool = False) -> nn.Module:
        """A new, plain, independent model with the kept weights.

        Blocks keep their names in ``state_dict``, and removed ones stand as ``nn.Identity``, unless ``renumber``: then
        lists of blocks close their gaps. Only for models whose forward goes through such a list from end to end.
        """
        plain = strip(self._copy())
        return build_slim(plain, self.structure(renumber))

    def _copy(self) -> nn.Module:
        # The folds hold the bank; copying it along would be waste.
        return copy.deepcopy(self.model, {id(self.bank): self.bank})

    def detach(self) -> nn.Module:
        """Take all masks off the model, in place, and return it as it was."""
        return strip(self.model)

    def to(self, *args: Any, **kwargs: Any) -> SearchSpace:
        """Move the structure's own tensors; the model moves by itself."""
        self.bank.to(*args, **kwargs)
        for counter in self.counters.values():
            counter.to(*args, **kwargs)
        return self

    # -- reporting
    def searchable_share(self, resource: str = 'macs') -> float:
        """Share of the supernet's MACs (or ``'params'``) in operators that at least one unit can shrink."""
        total = covered = 0.0
        trace, ownership = self.plan.trace, self.plan.ownership
        assert trace is not None
        terms = mac_terms(trace, ownership, 1) if resource == 'macs' else param_terms(trace, ownership, self.model)
        for factor, dims, blocks in terms:
            value = factor * float(np.prod([size for size, _ in dims]))
            total += value
            if blocks or any(owner is not None for _, owner in dims):
                covered += value
        return covered / total if total else 0.0

    def blockers(self, most: int | None = None) -> dict[str, int]:
        """Why channels of parameters stay: reason -> how many channels it froze, the largest first."""
        assert self.plan.trace is not None
        elements = self.plan.trace.elements
        frozen = elements.frozen()
        counts: dict[str, int] = {}
        seen: set[int] = set()
        for dims in self.plan.trace.params.values():
            for ids in dims:
                for root in np.unique(elements.find(ids)).tolist():
                    if root in frozen and root not in seen:
                        seen.add(root)
                        counts[frozen[root]] = counts.get(frozen[root], 0) + 1
        ordered = sorted(counts.items(), key=lambda item: -item[1])
        return dict(ordered[:most])

    def report(self) -> str:
        """Units, counts, searchable share, and why the rest stays."""
        assert self.plan.trace is not None
        structure = self.structure()
        strangled = structure.strangled()
        lines = [f'{len(self.units)} units, {len(self.bank.segment)} elements']
        lines.append(', '.join(f'{k} {v:,} of {self.supernet[k]:,}' for k, v in self.resources().items()))
        lines.append(f'searchable share of the MACs: {self.searchable_share():.1%}')
        lines.append(f'searchable share of the parameters: {self.searchable_share("params"):.1%}')
        for name, unit in self.units.items():
            flag = '  << under 5% of its width' if name in strangled else ''
            flag = '  (in a removed block)' if structure.is_gone(name) else flag
            lines.append(f'  {unit.kind:8} {name:50} {structure.kept(name):5d} / {unit.size}{flag}')
        for reason, count in self.blockers().items():
            lines.append(f'  frozen: {count} channels: {reason}')
            lines.append(f'    {remedy_of(reason)}')
        lines += [f'  operator without a rule: {op} in {where}' for op, where in self.plan.trace.unknown.items()]
        lines += [f'  {note}' for note in [*self.frozen, *self.plan.trace.notes]]
        return '\n'.join(lines)


def make_searchable(
    model: nn.Module,
    example_inputs: Any,
    *,
    ignore: Sequence[str] = (),
    depth: bool = True,
    attention: bool = True,
    min_channels: int = 1,
    step: int = 1,
    round_to: int = 1,
    units: Mapping[str, Mapping[str, Any]] | None = None,
    blocks: Mapping[str, str] | None = None,
    forward_fn: Callable[..., Any] | None = None,
    verify: bool = False,
) -> SearchSpace:
    """Find what can be removed from a model, and put masks on it, in place.

    Args:
        example_inputs: a tensor, a tuple (positional) or a dict (keywords) for ``forward``; only shapes matter, and
            counts are per sample of their first dimension.
        ignore: modules (names or patterns) whose output channels stay.
        depth: search the number of residual blocks of each stage.
        attention: search heads, and the positions inside them.
        min_channels, step, round_to: bounds of every width: fewest channels, channels per element (A.1.1), and the
            multiple that final counts are rounded to.
        units: unit name or pattern -> ``dict(step=, min_channels=, round_to=)`` or ``dict(ignore=True)``.
        blocks: class name -> branch (last module of the residual branch), for block classes without an adapter.
        forward_fn: called as ``forward_fn(model, example_inputs)`` instead of ``model(...)`` while tracing.
        verify: also compare a random hard structure with its slim model numerically.

    Raises:
        TraceError: the model doesn't run on fake tensors. ValueError: a wrong option, or nothing to search.
    """
    if any(True for m in model.modules() if '_dms_folds' in m.__dict__):
        raise ValueError('the model is searchable already; call detach() of its search space first')
    traced, example_inputs = _trace(model, example_inputs, forward_fn)
    notes: list[str] = []
    options = dict(
        ignore=ignore, min_channels=min_channels, step=step, round_to=round_to, overrides=units, attention=attention
    )
    tie_known_widths(traced, model)
    depth_units = find_depth_units(model, traced, blocks) if depth else []
    while True:
        close_gates(model, traced, depth_units)
        found: list[MutableUnit] = [*find_channel_units(traced, **options), *depth_units]  # type: ignore[arg-type]
        found = [u for u in found if u.size]
        if not found:
            raise ValueError('nothing to search: every channel and block of the model is frozen\n' + _reasons(traced))
        start = 0
        for index, unit in enumerate(found):
            unit.index, unit.start, start = index, start, start + unit.size
        plan = make_plan(traced, found, model)
        plan.mends = [*known_mends(plan, model), *stated_widths(plan, model)]
        if _settle(plan, model, found, example_inputs, forward_fn, notes):
            break
    bank = TopkBank([u.size for u in found], [u.temperature for u in found], [u.min_keep for u in found])
    parameter = next((p for p in model.parameters() if p.device.type != 'meta'), None)
    counters = {
        'macs': ResourceModel('macs', mac_terms(traced, plan.ownership, first_batch(example_inputs)), bank),
        'params': ResourceModel('params', param_terms(traced, plan.ownership, model), bank),
    }
    space = SearchSpace(model, plan, found, bank, counters, notes)
    _install(space, traced)
    if parameter is not None:
        space.to(parameter.device)
    if verify:
        from .slimming.verify import verify_equivalence

        verify_equivalence(space, example_inputs, forward_fn)
    return space


def _trace(model: nn.Module, inputs: Any, forward_fn: Callable[..., Any] | None) -> tuple[Trace, Any]:
    """Trace, with the batch doubled where a single sample keeps batch norms from running in training mode."""
    traced = trace(model, inputs, forward_fn)
    if len(traced.calls) < 2 and first_batch(inputs) == 1:
        twice = tree_map(
            lambda x: torch.cat([x, x]) if isinstance(x, Tensor) and x.ndim and x.shape[0] == 1 else x, inputs
        )
        try:
            again = trace(model, twice, forward_fn)
        except TraceError:
            return traced, inputs
        if len(again.calls) == 2:
            return again, twice
    return traced, inputs


def _reasons(traced: Trace) -> str:
    return '\n'.join(f'  {reason}' for reason in sorted(set(traced.elements.frozen().values())))


def random_keep(units: Sequence[MutableUnit], seed: int, low: float = 0.3, blocks: bool = True) -> np.ndarray:
    """A random hard structure, (N,) bool: every unit keeps a random subset, at least ``low`` of its width."""
    generator = np.random.default_rng(seed)
    keep = np.ones(sum(u.size for u in units), dtype=bool)
    for unit in units:
        if unit.kind == 'depth' and not blocks:
            continue
        # Without any block little else of a model would be seen.
        least = max(unit.min_keep, round(low * unit.size) if unit.kind != 'depth' else unit.size // 2)
        count = int(generator.integers(least, unit.size + 1))
        gone = generator.permutation(unit.size)[count:]
        keep[unit.start + gone] = False
    return keep


def _every_unit_cut(units: Sequence[MutableUnit], seed: int, end: str, blocks: bool) -> np.ndarray:
    """A hard structure, (N,) bool, in which every unit lost its ``'first'`` or ``'last'`` elements.

    Units of one size keep different numbers as far as there are, so that none is taken for another.
    """
    generator = np.random.default_rng(seed)
    offset: dict[int, int] = {}
    keep = np.ones(sum(u.size for u in units), dtype=bool)
    for unit in units:
        low, high = max(unit.min_keep, round(0.3 * unit.size)), max(unit.min_keep, unit.size - 1)
        if unit.kind != 'depth' or blocks:
            low = min(low, high)
            if unit.size not in offset:
                offset[unit.size] = int(generator.integers(high + 1 - low))
            count = low + offset[unit.size] % (high + 1 - low)
            offset[unit.size] += 1 if end == 'first' else max(1, (high + 1 - low) // 2)
            gone = slice(0, unit.size - count) if end == 'first' else slice(count, unit.size)
            keep[unit.start : unit.start + unit.size][gone] = False
    return keep


def _alike(trials: Sequence[np.ndarray], units: Sequence[MutableUnit]) -> tuple[MutableUnit, MutableUnit] | None:
    """Two widths of one size that keep the same number in every structure: one would pass for the other."""
    seen: dict[tuple[int, ...], MutableUnit] = {}
    for unit in units:
        counts = (unit.size, *(int(keep[unit.start : unit.start + unit.size].sum()) for keep in trials))
        if unit.kind != 'depth' and seen.setdefault(counts, unit) is not unit:
            return seen[counts], unit
    return None


def _settle(
    plan: Plan,
    model: nn.Module,
    units: list[MutableUnit],
    inputs: Any,
    forward_fn: Callable[..., Any] | None,
    notes: list[str],
) -> bool:
    """Mend or freeze until random structures run as predicted. False: something was frozen, plan anew."""
    assert plan.trace is not None
    elements = plan.trace.elements
    names = {u.name: u for u in units}
    trained = len(plan.trace.calls) > 1

    def test(keep: np.ndarray) -> Mismatch | None:
        # The training mode differs in few places: one structure sees them.
        mode = int(trained and keep is trials[1][0])
        return first_mismatch(plan, model, plan_structure(plan, keep, model, names), keep, mode, inputs, forward_fn)

    # Cuts at the front and at the back find sizes that a forward writes down; different counts tell them apart.
    trials = [
        (_every_unit_cut(units, 0, 'first', blocks=False), False),
        (_every_unit_cut(units, 1, 'last', blocks=True), True),
        (random_keep(units, 2), True),
        (random_keep(units, 3, blocks=False), False),
    ]
    for seed in range(4, 10):
        pair = _alike([keep for keep, _ in trials], units)
        if pair is None:
            break
        keep = random_keep(units, seed, blocks=False)
        for unit, count in zip(pair, (pair[0].min_keep, pair[1].size)):
            keep[unit.start : unit.start + unit.size] = np.arange(unit.size) < count
        trials.append((keep, False))
    queue = list(trials)
    replaced = 0
    if plan.copies:
        # A forward that counts its blocks can't do with fewer; then their copies stay.
        keep = np.ones(len(plan.ownership.units), dtype=bool)
        keep[
            [element for path, element in plan.ownership.blocks if any(path == copy.block for copy in plan.copies)]
        ] = False
        problem = test(keep)
        if problem is not None:
            for gate in plan.trace.gates.values():
                close_gate(elements, gate)
            notes.append(f'copies of removed blocks stay in concatenations, because without them {problem.message}')
            return False
    while queue:
        keep, blocks = queue.pop(0)
        problem = test(keep)
        while problem is not None:
            # Several asserts may guard one operator: a remedy that satisfies the first of them is a step, too.
            partial: tuple[Remedy, Mismatch] | None = None
            for remedy in remedies(plan, model, problem, keep):
                if (remedy.drop or remedy.drop_scales) and replaced >= 8:
                    continue
                if remedy.ties:
                    left = np.concatenate([a for a, _ in remedy.ties])
                    right = np.concatenate([b for _, b in remedy.ties])
                    if not elements.same(left, right):
                        elements.union(left, right)
                        return False
                    continue
                remedy.apply(plan)
                after = test(keep)
                if after is None or after.place > problem.place:
                    problem = after
                    if remedy.drop or remedy.drop_scales:
                        # Another meaning of an attribute must hold for the structures before, too.
                        replaced += 1
                        queue = list(trials)
                    break
                remedy.undo(plan)
                if partial is None and 'AssertionError' in problem.message and after.message != problem.message:
                    partial = remedy, after
            else:
                if partial is not None:
                    partial[0].apply(plan)
                    problem = partial[1]
                    continue
                message = problem.message
                calls = plan.trace.calls[problem.mode]
                here = calls[problem.index]
                culprits = _culprits(test, units, keep) if blocks else []
                if culprits:
                    for unit in culprits:
                        unit.size = 0
                        notes.append(f'{unit.name} is no unit, because without its blocks {message}')
                    return False
                # Where the operator itself sees no unit, whatever its module does with units is in doubt.
                path = here.module
                group = [here]
                while True:
                    touched = [
                        ids
                        for call in group
                        for entries in [*call.axes, *call.input_axes]
                        for _, ids in entries
                        if (plan.owner(ids) >= 0).any()
                    ]
                    if touched or group is calls:
                        break
                    prefix = path + '.'
                    group = [c for c in calls if (c.module + '.').startswith(prefix)] if path else calls
                    path = path.rpartition('.')[0]
                if not touched:
                    raise TraceError(
                        f'a slim model does not run as traced, and no unit at that operator can be frozen: {message}'
                    )
                for ids in touched:
                    parts = elements.parts(ids)
                    elements.freeze(parts[parts >= 0], f'the slim forward fails: {message}')
                notes.append(f'frozen because the slim forward failed: {message}')
                return False
    return True


def _culprits(
    test: Callable[[np.ndarray], Mismatch | None], units: Sequence[MutableUnit], keep: np.ndarray
) -> list[DepthUnit]:
    """Depth units whose blocks can't be left out, if that is what fails."""
    depth = [u for u in units if isinstance(u, DepthUnit)]
    whole = keep.copy()
    for unit in depth:
        whole[unit.start : unit.start + unit.size] = True
    if test(whole) is not None:
        return []
    found = []
    for unit in depth:
        alone = whole.copy()
        alone[unit.start : unit.start + unit.size] = keep[unit.start : unit.start + unit.size]
        if test(alone) is not None:
            found.append(unit)
    return found


def _install(space: SearchSpace, traced: Trace) -> None:
    """Fold the channel masks into consumers, the depth masks into the last affine of each branch."""
    bank, plan, model = space.bank, space.plan, space.model
    segment = bank.segment.numpy()
    start = bank.start.numpy()
    holders: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for key, p in [*module._parameters.items(), *module._buffers.items()]:
            if p is not None:
                holders.setdefault(id(p), []).append((module, key))
    parameters: dict[str, Tensor] = {**dict(model.named_buffers()), **dict(model.named_parameters())}

    def folds(name: str) -> list[Fold]:
        return [fold_of(module, key, bank) for module, key in holders[id(parameters[name])]]

    depth = np.array([isinstance(u, DepthUnit) for u in space.units.values()])

    def pieces(owner: np.ndarray, only: set[int] | None = None) -> Iterator[tuple[list[int], torch.Tensor | None]]:
        """Units and index of each column of a dimension's elements.

        What a block concatenates stays as a copy of its input while the block is masked.
        """
        for column in owner.T:
            inside = (column >= 0) & ~depth[segment[np.maximum(column, 0)]]
            if only is not None:
                inside &= np.isin(segment[np.maximum(column, 0)], list(only))
            if not inside.any():
                continue
            units = list(dict.fromkeys(segment[column[inside]].tolist()))
            offset = np.zeros(len(start), dtype=np.int64)
            total = 0
            for u in units:
                offset[u] = total
                total += bank.sizes[u]
            index = np.full(len(column), total, dtype=np.int64)
            index[inside] = column[inside] - start[segment[column[inside]]] + offset[segment[column[inside]]]
            plain = len(units) == 1 and np.array_equal(index, np.arange(bank.sizes[units[0]]))
            yield units, None if plain else torch.from_numpy(index)

    # Consumers take the masks of all units of their dimension, producers those that were asked of them.
    masked: dict[tuple[str, int], set[int] | None] = dict.fromkeys(traced.consumers)
    for makers, ids in traced.requests:
        wanted = plan.owner(ids)
        asked = set(segment[wanted[wanted >= 0]].tolist())
        for name in makers if asked else ():
            for dim, owner in enumerate(plan.owners.get(name, [])):
                if owner is None or ((name, dim) in masked and masked[name, dim] is None):
                    continue
                if asked & set(segment[owner[owner >= 0]].tolist()):
                    masked[name, dim] = (masked.get((name, dim)) or set()) | asked
    for (name, dim), only in masked.items():
        owner = plan.owners[name][dim] if name in plan.owners else None
        if owner is not None:
            for fold in folds(name):
                fold.pieces += [(dim, *piece) for piece in pieces(owner, only)]

    def mask_of(owner: np.ndarray) -> Fold:
        fold = Fold(bank)
        fold.pieces = [(0, *piece) for piece in pieces(owner)]
        return fold

    for path, (spec, ids) in traced.norms.items():
        owner = plan.owner(ids)
        if (owner >= 0).any():
            install(MaskedNorm(model.get_submodule(path), spec, mask_of(owner)))
    for path, (standard, inputs) in traced.standardised.items():
        # Masks of its rows and its block come behind the standardisation, whether or not its inputs are pruned.
        mask = Fold(bank) if inputs is None else mask_of(plan.owner(inputs))
        install(MaskedConvolution(model.get_submodule(path), standard, mask))
    for path, (mixing, ids) in traced.compact.items():
        install(Compact(model.get_submodule(path), mixing.dim, mask_of(plan.owner(ids))))
    for unit in space.units.values():
        if not isinstance(unit, DepthUnit):
            continue
        for element, (block, carriers) in enumerate(zip(unit.blocks, unit.carriers)):
            for branch, names in carriers.items():
                for name in names:
                    for fold in folds(name):
                        fold.scalars.append((unit.index, element))
                if not names:
                    module = model.get_submodule(f'{block}.{branch}')
                    module.register_forward_hook(OutputMask(bank, unit.index, element))


__all__ = ['ChannelUnit', 'SearchSpace', 'make_searchable', 'random_keep']
