"""What a search rule is: it moves the ratios after every step of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from ..search import Search


class Rule:
    """Moves ``search.bank.ratio`` (U,) in place by what the task and the budget say; one's own gives :meth:`step`.

    A subclass is built as ``cls(search, **options)``, and registered in :data:`dms_mm.registry.RULES`. It is made anew
    for every run, so what it remembers between steps is kept by :meth:`dms_mm.topk.TopkBank.remember`, in the
    checkpoint.

    Attributes:
        weight: factor of :meth:`Search.resource_loss`.
        low: (U,) long, fewest elements of each unit in the structure at the end.
    """

    weight: float = 1.0

    def __init__(self, search: Search) -> None:
        self.search, self.bank = search, search.bank
        self.low: Tensor = self.bank.min_keep

    def step(self, task: Tensor) -> None:
        """Move the ratios once, none of ``bank.hardened``. Not called in the warm-up, nor after an overflow.

        Args:
            task: (U,) ``d(task loss)/d(ratio)``, the mean over all processes; the same on all of them, and so must the
                new ratios be.
        """
        raise NotImplementedError
