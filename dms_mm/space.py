"""``make_searchable`` and the search space it returns (DESIGN 5)."""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .mutables import MutableUnit, build_selector, check_counts
from .mutators.find import Found, UnitOptions, find_units
from .mutators.fold import has_folds, share_bank, strip
from .mutators.install import install
from .mutators.scores import l1_scores
from .registry import nearest, unknown
from .report import blockers, report, searchable_share
from .resources import Resources, build_resources
from .slimming import Structure, build_slim
from .slimming.cut import plan_structure
from .slimming.narrow import narrow_layers, warn_of
from .slimming.plan import Plan
from .slimming.proof import Proof, settle_proved
from .slimming.settle import Settled, first_plan, settle
from .topk import TopkBank
from .tracing import first_batch, forget
from .tracing.both_modes import trace_both_modes
from .tracing.process import same_process, uncollected
from .tracing.state import State, duplicate, without_graph

NOT_COMPARED = Proof('it was not asked for')


class SearchSpace:
    """The units of a model, their masks, and what a choice of them costs. Made by :func:`make_searchable`.

    Attributes:
        model: the searchable model; its class, parameters and ``state_dict`` keys are what they were.
        units: ordered dict from name to :class:`MutableUnit`.
        bank: the :class:`TopkBank` that holds ratios, importances and masks.
        counters: resource name -> differentiable :class:`~dms_mm.resources.Resource`.
        plan: the :class:`Plan` by which masks become slim models; its ``trace`` is what the forward told.
        frozen: notes on what was found unsafe to prune by the check after tracing.
        proof: what the comparison of masked and slim models by numbers came to.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        bank: TopkBank,
        counters: Resources,
        frozen: Sequence[str] = (),
        proof: Proof = NOT_COMPARED,
    ) -> None:
        self.model = model
        self.plan = plan
        self.units: OrderedDict[str, MutableUnit] = OrderedDict((u.name, u) for u in plan.units)
        self.bank = bank
        self.counters = counters
        self.frozen = list(frozen)
        self.proof = proof
        self.supernet = {name: self._full(name) for name in counters}

    # -- masks
    def set_keep(self, keep: Mapping[str, Tensor | Sequence[bool] | int]) -> None:
        """Harden units: a bool mask (size,) or a count, of which the most important are kept.

        Raises:
            KeyError: unknown unit. ValueError: wrong shape, a count off the unit's grid, or a tie without all of it.
        """
        masks: dict[str, Tensor] = {}
        for name, value in keep.items():
            unit = self._unit(name)
            if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
                unit.check(int(value))
                rank = self.bank.rank[unit.start : unit.start + unit.size]
                mask = torch.zeros(unit.size, dtype=torch.bool, device=rank.device)
                mask[torch.topk(rank, int(value)).indices] = True
            else:
                mask = torch.as_tensor(value)
                if mask.dtype != torch.bool or tuple(mask.shape) != (unit.size,):
                    raise ValueError(f'the mask of unit {name!r} must be bool of shape ({unit.size},)')
            masks[name] = mask
        check_counts(list(self.units.values()), {name: int(mask.sum()) for name, mask in masks.items()})
        for name, mask in masks.items():
            self.bank.harden(self.units[name].index, mask)

    def check_keep(self, keep: Tensor) -> None:
        """Raises: ValueError where ``keep`` (N,) bool is off the grid of a unit or unequal in a tie; names it."""
        counts = [int(part.sum()) for part in keep.cpu().split(self.bank.sizes)]
        check_counts(list(self.units.values()), dict(zip(self.units, counts)))

    def mask(self, name: str) -> Tensor:
        """The present mask of a unit, (size,)."""
        unit = self._unit(name)
        return self.bank.leaves[unit.index].detach().clone()

    def l1_scores(self) -> Tensor:
        """(N,) L1 norms of the weights that make each element, or of each block's branches (table 6)."""
        plan = self.plan
        return l1_scores(self.model, plan.trace, plan.ownership, plan.units, self.bank)

    def _unit(self, name: str) -> MutableUnit:
        if name not in self.units:
            raise KeyError(f'no unit {name!r};{nearest(name, self.units)} units are: {", ".join(self.units)}')
        return self.units[name]

    # -- resources
    def _full(self, name: str) -> int | float:
        return self.counters[name].count(torch.ones_like(self.bank.keep), self.bank)

    def add_resource(self, name: str, spec: str | Mapping[str, Any] | None = None) -> None:
        """Count one resource more: a registered one, or ``dict(type=..., option=...)`` under a name of its own.

        Raises:
            ValueError: an unknown resource or option.
        """
        self.counters.add(name, spec)
        self.supernet[name] = self._full(name)

    def resources(self) -> dict[str, int | float]:
        """Counts of the present hard structure, per sample."""
        keep = self.bank.hard_keep()
        return {name: counter.count(keep, self.bank) for name, counter in self.counters.items()}

    def soft_resource(self, name: str) -> Tensor:
        """() float64 scalar: the present hard count with the soft gradient (section 3.2).

        With selectors that draw their masks, the expected count.
        """
        if name not in self.counters:
            known = ', '.join(self.counters)
            raise KeyError(f'no resource {name!r};{nearest(name, self.counters)} resources are: {known}')
        return self.counters[name](self.bank)

    # -- structure
    def structure(self, renumber: bool = False) -> Structure:
        """The present hard structure; with ``renumber``, kept blocks of a slim model are numbered from 0 on.

        Warns:
            UserWarning: names layers so narrow that torch on this CPU trains them wrongly in channels_last.
        """
        structure = self._structure(renumber)
        warn_of(narrow_layers(self.model, structure))
        return structure

    def _structure(self, renumber: bool = False) -> Structure:
        kept = self.bank.hard_keep()
        self.check_keep(kept)
        keep = kept.cpu().numpy()
        counts = dict(resources=self.resources(), supernet=dict(self.supernet))
        return plan_structure(self.plan, keep, self.model, renumber=renumber, **counts)

    def slim(self, renumber: bool = False, structure: Structure | None = None) -> nn.Module:
        """A new, plain, independent model with the kept weights, of the present structure unless another is given.

        Blocks keep their names in ``state_dict``, and removed ones stand as ``nn.Identity``, unless ``renumber``: then
        lists of blocks close their gaps. Only for models whose forward goes through such a list from end to end.
        """
        plain = forget(duplicate(self.model), self.plan.stale)
        return build_slim(strip(plain), self.structure(renumber) if structure is None else structure)

    def __deepcopy__(self, memo: dict[int, Any]) -> SearchSpace:
        """A search space of its own. Of the model alone, copies have weights of their own and the masks of this one."""
        twin: SearchSpace = type(self).__new__(type(self))
        memo.update({id(self): twin, **without_graph(self.model)})
        copy.deepcopy(self.bank, memo)  # first: the masks on the model's copy take it
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        share_bank(twin.model, twin.bank)
        return twin

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
    def searchable_share(self, resource: str = 'macs', by: str = 'units') -> float:
        """Share of the supernet's MACs (or ``'params'``) in operators that at least one unit can shrink.

        Args:
            by: ``'units'``, or ``'widths'``: in operators with a width that can shrink, whether or not their block
                can go.

        Raises:
            ValueError: another resource, or another ``by``.
        """
        return searchable_share(self.model, self.plan.trace, self.plan.ownership, resource, by)

    def blockers(self, most: int | None = None) -> dict[str, int]:
        """Why channels of parameters stay: reason -> how many channels it froze, the largest first."""
        return blockers(self.plan.trace, most)

    def report(self, structure: Structure | None = None) -> str:
        """Units, counts, searchable share, and why the rest stays; of the present structure unless another is given."""
        structure = self._structure() if structure is None else structure
        return report(self.model, self.plan, structure, [str(self.proof), *self.frozen])


@uncollected()
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
    resources: Mapping[str, Any] | None = None,
    selector: str | Mapping[str, Any] = 'topk',
    forward_fn: Callable[..., Any] | None = None,
    verify: str | bool = 'numbers',
    verify_inputs: Any = None,
) -> SearchSpace:
    """Find what can be removed from a model, and put masks on it, in place.

    Args:
        example_inputs: a tensor, a tuple (positional) or a dict (keywords) for ``forward``, of a shape that
            it takes; counts are per sample of the first dimension. Where all values are one, random ones are compared.
        ignore: modules (names or patterns) whose output channels stay.
        depth: search the number of residual blocks of each stage.
        attention: search heads, and the positions inside them.
        min_channels, step, round_to: bounds of every width: fewest channels, channels per element (A.1.1), and the
            multiple that final counts are rounded to.
        units: unit name or pattern -> ``dict(min=, max=, step=, round_to=, tie=)``, ``dict(ignore=True)``, or a
            ``type`` of one's own and its options. Patterns with ``/depth`` are of depth units, of which ``min`` and
            ``max`` are blocks. Units with one ``tie`` keep equally many; ``tie=True`` is all that a pattern matches.
        blocks: class name -> branch (last module of the residual branch), for block classes without an adapter.
        resources: name -> ``dict(type=..., option=...)``, resources beside MACs and parameters (docs/extend.md).
        selector: what turns ratios into masks, by name or ``dict(type=..., option=...)``.
        forward_fn: called as ``forward_fn(model, example_inputs)`` instead of ``model(...)`` while tracing.
        verify: ``'numbers'`` (or True): slim models of trial structures run without data, then slim and masked ones are
            compared by numbers; what fails or differs is frozen. ``'shapes'`` leaves out the comparison, False both.
        verify_inputs: smaller inputs for the comparison.

    Raises:
        TraceError: the model doesn't run on fake tensors. ValueError: a wrong option, or nothing to search.
    """
    _check(model, verify)
    options = UnitOptions(
        ignore=ignore, depth=depth, attention=attention, min_channels=min_channels, step=step, round_to=round_to,
        units=units or {}, blocks=blocks or {},
    )  # fmt: skip
    with same_process(), State(model, forward_fn) as state:
        traced, inputs = trace_both_modes(model, example_inputs, forward_fn, state)
        settled, proof = _settled(model, find_units(model, traced, options), inputs, forward_fn, verify, verify_inputs)
        plan = settled.plan
        bank = build_selector(selector, plan.units)
        counters = build_resources(resources, plan.trace, plan.ownership, model, first_batch(inputs), bank)
    install(model, plan.trace, plan.ownership, plan.units, bank)
    space = SearchSpace(model, plan, bank, counters, settled.notes, proof)
    device = next((p.device for p in model.parameters() if p.device.type != 'meta'), None)
    if device is not None:
        space.to(device)
    if proof.unproved and verify != 'shapes' and verify:
        logging.getLogger('dms_mm').warning('%s is %s', type(model).__name__, proof)
    return space


def _check(model: nn.Module, verify: str | bool) -> None:
    if has_folds(model):
        raise ValueError('the model is searchable already; call detach() of its search space first')
    if verify not in ('numbers', 'shapes', True, False):
        raise unknown('value', verify, ('numbers', 'shapes', False), where=' of `verify`')


def _settled(
    model: nn.Module, found: Found, inputs: Any, forward_fn: Any, verify: str | bool, verify_inputs: Any
) -> tuple[Settled, Proof]:
    """The plan of a model's units, tried and compared as far as ``verify`` says."""
    if verify in ('numbers', True):
        return settle_proved(model, found, inputs, forward_fn, verify_inputs)
    if verify == 'shapes':
        return settle(model, found, inputs, forward_fn), NOT_COMPARED
    return Settled(first_plan(model, found)[0], found, ()), NOT_COMPARED
