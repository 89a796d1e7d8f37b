"""What a resource is: a differentiable function of what the units keep (section 3.2, A.1.2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..topk import TopkBank


class Resource(nn.Module):
    """One resource of a structure, to be bounded by a search. One's own gives :meth:`value`; the rest follows.

    A subclass is built as ``cls(context, **options)`` with a :class:`ResourceContext`, and registered in
    :data:`dms_mm.registry.RESOURCES`. Its tensors are constants (:meth:`constant`): they move with the model, are
    neither trained nor saved, and stay float64 whatever the model is cast to.

    Attributes:
        integer: exact counts are whole numbers and reported as ``int``.
        unit: what it is counted in: ``''`` for a plain number, ``'s'`` for seconds, ``'B'`` for bytes. Targets may be
            given in the units of :data:`.amounts.UNITS`.
        by_parts: whether a context that tells of a part's operators and parameters alone gives the part's resource;
            then parts of a model may have targets of their own.
    """

    integer: bool = True
    unit: str = ''
    by_parts: bool = False

    def value(self, kept: Tensor, masks: Tensor) -> Tensor:
        """() float64, over 0, per sample: the resource of a structure, differentiable in both arguments.

        It must not fall when a unit keeps more: a search meets its target by scaling counts.

        Args:
            kept: (U,) float64, elements that each unit keeps; real numbers while a search moves between counts.
            masks: (N,) float64 of all elements: of widths which are kept, of depth units which blocks are there.
        """
        raise NotImplementedError

    @property
    def needs_masks(self) -> bool:
        """Whether :meth:`value` depends on which elements of a width are kept, not only on how many and which blocks.

        Where it doesn't, saying so makes the end of a search faster.
        """
        return True

    def constant(self, name: str, values: object, dtype: torch.dtype = torch.float64) -> Tensor:
        """Keep numbers as the tensor ``self.name``."""
        self.register_buffer(name, torch.as_tensor(values, dtype=dtype), persistent=False)
        return self.get_buffer(name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Resource:
        def move(x: Tensor) -> Tensor:
            return x.to(fn(torch.empty(0, device=x.device)).device)

        super()._apply(move, recurse)
        return self

    def forward(self, bank: TopkBank) -> Tensor:
        """() float64: of the present hard structure, with the soft gradient to ``bank.trained`` (A.1.2)."""
        return self.value(bank.soft_counts(), bank.soft_keep())

    def continuous(self, bank: TopkBank, ratio: Tensor) -> Tensor:
        """() float64: for real-valued kept numbers ``(1 - ratio) N``, smooth in ``ratio`` (U,).

        Every element of a unit, a block too, counts with the share ``1 - a``; hardened units as they are.
        """
        return self.surface(bank)(ratio)

    def surface(self, bank: TopkBank) -> Callable[[Tensor], Tensor]:
        """:meth:`continuous` as a function of the ratios alone, for several of them while nothing hardens."""
        hardened = bank.hardened if bool(bank.hardened.any()) else None
        if hardened is not None:
            hard = bank.hard_counts() / bank.size
            fixed, keep = bank.spread(hardened), bank.keep.double()

        def value(ratio: Tensor) -> Tensor:
            share = 1 - ratio.double()
            if hardened is None:
                return self.value(share * bank.size, bank.spread(share))
            share = torch.where(hardened, hard, share)
            return self.value(share * bank.size, torch.where(fixed, keep, bank.spread(share)))

        return value

    @torch.no_grad()
    def count(self, keep: Tensor, bank: TopkBank) -> int | float:
        """Exactly, of a hard structure, ``keep`` (N,) bool."""
        masks = keep.double()
        kept = torch.zeros(len(bank.sizes), dtype=torch.float64, device=masks.device).index_add(0, bank.segment, masks)
        return self.count_by_numbers(kept, masks)

    @torch.no_grad()
    def count_by_numbers(self, kept: Tensor, masks: Tensor) -> int | float:
        """Exactly, for (U,) kept numbers; of ``masks`` (N,) only blocks matter unless :attr:`needs_masks`."""
        value = float(self.value(kept.double(), masks.double()))
        return round(value) if self.integer else value
