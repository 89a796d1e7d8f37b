"""Masks as factors: of parameters as they are read, and of outputs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..topk import TopkBank
from ..topk.leaves import Shaped


class Fold:
    """The product of a parameter with the masks of its dimensions.

    ``pieces`` holds per masked dimension the units in it and, unless the dimension is exactly one unit in its own
    order, the index of every position into the concatenation of these units' masks and a constant one.
    ``scalars`` holds (unit, element) of the depth masks that scale the whole parameter. What is scaled is what the
    module uses: the parameter plus ``offset``.

    A copy shares the bank, so a copy of a model (an average of its weights) shows the structure that is searched.
    """

    def __init__(self, bank: TopkBank, offset: float = 0.0) -> None:
        self.bank, self.offset = bank, offset
        self.pieces: list[tuple[int, list[int], Tensor | None]] = []
        self.scalars: list[tuple[int, int]] = []

    def shapes(self, weight: Tensor) -> Iterator[Shaped]:
        """In which a parameter needs masks."""
        yield from (Shaped(unit, element=element) for unit, element in self.scalars)
        yield from (Shaped(units[0], weight.ndim - 1 - dim) for dim, units, index in self.pieces if index is None)

    def dim_mask(self, units: Sequence[int], index: Tensor | None) -> Tensor:
        leaves = [self.bank.leaves[u] for u in units]
        if index is None:
            return leaves[0]
        ones = torch.ones(1, dtype=leaves[0].dtype, device=leaves[0].device)
        return torch.cat([*leaves, ones])[index]

    def __call__(self, weight: Tensor) -> Tensor:
        # Masks of blocks go into the first other one: a vector is cheaper to scale than a weight.
        leaves = self.bank.leaves
        scalars = [leaves.element(*place) for place in self.scalars]
        for i, (dim, units, index) in enumerate(self.pieces):
            behind = weight.ndim - 1 - dim
            if index is None:
                mask = leaves.before(units[0], behind)
            else:
                if index.device != self.bank.mask.device:
                    index = index.to(self.bank.mask.device)
                    self.pieces[i] = (dim, units, index)
                mask = self.dim_mask(units, index)
                mask = mask.view([-1] + [1] * behind) if behind else mask
            while scalars:
                mask = mask * scalars.pop()
            weight = self._scaled(weight, mask)
        for scalar in scalars:
            weight = self._scaled(weight, scalar)
        return weight

    def _scaled(self, weight: Tensor, mask: Tensor) -> Tensor:
        if mask.dtype != weight.dtype or mask.device != weight.device:
            mask = mask.to(weight.device, weight.dtype)
        # Where the mask is one, to the bit what it was.
        return weight * mask + (mask - 1) * self.offset if self.offset else weight * mask

    def __deepcopy__(self, memo: dict[int, Any]) -> Fold:
        twin = Fold(memo.get(id(self.bank), self.bank), self.offset)
        twin.pieces, twin.scalars = copy.deepcopy(self.pieces, memo), list(self.scalars)
        return twin


class OutputMask:
    """Forward hook that scales a branch's output where no affine could take the mask."""

    def __init__(self, bank: TopkBank, unit: int, element: int) -> None:
        self.bank, self.unit, self.element = bank, unit, element

    def __call__(self, module: nn.Module, args: Any, out: Any) -> Any:
        first = out[0] if isinstance(out, tuple) else out
        masked = first * self.bank.leaves.element(self.unit, self.element).to(first.device, first.dtype)
        return (masked, *out[1:]) if isinstance(out, tuple) else masked

    def __deepcopy__(self, memo: dict[int, Any]) -> OutputMask:
        return OutputMask(memo.get(id(self.bank), self.bank), self.unit, self.element)
