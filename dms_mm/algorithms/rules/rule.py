"""What a search rule is: it moves the ratios after every step of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from ...space import SearchSpace
from ...topk import TopkBank


class RunningSearch(Protocol):
    """What a rule may ask of the :class:`~dms_mm.Search` that it moves."""

    space: SearchSpace
    bank: TopkBank
    targets: dict[str, float]
    total_steps: int
    warmup: float

    @property
    def steps(self) -> int: ...

    def goal(self, resource: str) -> float: ...

    def resource_loss(self) -> Tensor: ...


class Rule:
    """Moves ``search.bank.trained`` in place by what the task and the budget say; one's own gives :meth:`step`.

    With the top-k that is ``search.bank.ratio`` (U,), the share of each unit that goes. Other selectors may train other
    numbers, of any shape: a rule that takes them as they are says so by ``any_selector``.

    A subclass is built as ``cls(search, **options)``, and registered in :data:`dms_mm.registry.RULES`. It is made anew
    for every run, so what it remembers between steps is kept by :meth:`dms_mm.topk.TopkBank.remember`, in the
    checkpoint.

    Attributes:
        weight: factor of :meth:`Search.resource_loss`.
        any_selector: trains ``bank.trained`` whatever it is, not ratios alone.
        low: (U,) long, fewest elements of each unit in the structure at the end.
    """

    weight: float = 1.0
    any_selector: bool = False

    def __init__(self, search: RunningSearch) -> None:
        self.search, self.bank = search, search.bank
        if self.bank.trains != 'ratio' and not self.any_selector:
            raise ValueError(
                f'rule {type(self).__name__} moves the share of each unit that goes, but selector '
                f'{type(self.bank).__name__} trains its {self.bank.trains}: take `rule="paper"`, or the selector "topk"'
            )
        self.low: Tensor = self.lowest(search.targets)

    def lowest(self, targets: Mapping[str, float]) -> Tensor:
        """(U,) long, fewest elements of each unit in a structure of these absolute targets."""
        return self.bank.min_keep

    def step(self, task: Tensor) -> None:
        """Move what is trained once, nothing of ``bank.hardened``. Not called in the warm-up, nor after an overflow.

        Args:
            task: ``d(task loss)/d(trained)``, (U,) for ratios, the mean over all processes; the same on all of them,
                and so must the new numbers be.
        """
        raise NotImplementedError

    @property
    def confidence(self) -> Tensor | None:
        """(U,) what of every unit's signal is no noise, from 0 to 1, below 0 where nothing was seen yet; None if the
        rule doesn't measure it."""
        return None

    def hold_confidence(self) -> None:
        """Keep the present confidence of units that are about to become hard."""
