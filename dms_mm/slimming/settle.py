"""Settle a plan: mend it until trial structures run as predicted, or find units anew where it can't be mended.

Plans, mismatches, remedies and revisions are values. Trials, remedies and the finding of units make them; only two
loops, over units here and over plans of the same units in :mod:`.mending`, go from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..mutators.find import Found, find_again
from .mending import Learnt, Mending
from .mends import chosen_counts, known_mends, norm_widths, stated_widths
from .plan import Plan, Remedy, make_plan
from .sizes import Sizes


@dataclass(frozen=True)
class Settled:
    """A plan by which trial structures run as predicted, the units that it is of, and notes on what it took out of the
    search."""

    plan: Plan
    found: Found
    notes: tuple[str, ...]


def settle(model: nn.Module, found: Found, inputs: Any, forward_fn: Callable[..., Any] | None = None) -> Settled:
    """The plan of a model's units that holds for slim models.

    Raises:
        TraceError: a slim model does not run as traced, and no unit can be blamed. ValueError: no unit is left.
    """
    notes: list[str] = []
    learnt = Learnt()
    with learnt.progress:
        while True:
            plan, sizes = first_plan(model, found)
            outcome = Mending(model, plan, sizes, inputs, forward_fn, learnt).run()
            if isinstance(outcome, Plan):
                return Settled(outcome, found, tuple(notes))
            notes += outcome.notes
            found = find_again(model, found, outcome)


def first_plan(model: nn.Module, found: Found) -> tuple[Plan, Sizes]:
    """The plan of a model's units with what is known of its modules' attributes; no slim model has been tried."""
    plan = make_plan(model, found.trace, found.units)
    sizes = Sizes(model, plan.trace, plan.ownership)
    known = [
        *known_mends(plan, model),
        *chosen_counts(plan, model),
        *norm_widths(plan, model),
        *stated_widths(sizes, model),
    ]
    return plan.mended(Remedy(mends=known)), sizes
