"""What a search strategy is."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ...space import SearchSpace
from .task import Budget, Task


class Strategy:
    """A way to a structure of a :class:`SearchSpace` that steps no ratios. One's own gives :meth:`search`.

    A subclass is built as ``cls(**options)`` and registered in :data:`dms_mm.registry.STRATEGIES`.
    """

    def needs(self) -> tuple[int, int]:
        """How many training batches and how many held-out ones it looks at."""
        return 0, 0

    def search(
        self, space: SearchSpace, target: Mapping[str, float], task: Task | None = None, budget: Budget | None = None
    ) -> Tensor:
        """(N,) bool: a structure that meets the target; the space and its model stay as they were.

        Args:
            target: resource -> share of the supernet or count, as of :class:`dms_mm.Search`.
        """
        raise NotImplementedError
