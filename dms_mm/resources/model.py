"""Differentiable resource counts (section 3.2): products of kept counts, summed with a few vector operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..topk import TopkBank

# (factor, [(size, element of each position or -1) or a plain size], [depth elements])
Dim = tuple[int, np.ndarray | None]
Term = tuple[float, list[Dim], list[int]]


@dataclass
class _Rows:
    """Distinct dimensions: kept count = const + sum of multiplicities of the kept elements."""

    const: list[float] = field(default_factory=lambda: [1.0])  # row 0 is the constant one
    unit: list[tuple[int, int, float]] = field(default_factory=list)
    element: list[tuple[int, int, float]] = field(default_factory=list)
    known: dict[bytes, int] = field(default_factory=dict)

    def add(self, size: int, owner: np.ndarray | None, bank: TopkBank) -> int:
        key = str(size).encode() if owner is None else b'o' + owner.tobytes()
        if key in self.known:
            return self.known[key]
        row = len(self.const)
        self.known[key] = row
        if owner is None:
            self.const.append(float(size))
            return row
        self.const.append(float((owner < 0).sum()))
        elements, counts = np.unique(owner[owner >= 0], return_counts=True)
        segment = bank.segment.cpu().numpy()[elements]
        for u in np.unique(segment).tolist():
            mine = segment == u
            if mine.sum() == bank.sizes[u] and (counts[mine] == counts[mine][0]).all():
                self.unit.append((row, u, float(counts[mine][0])))
            else:
                self.element += [(row, int(e), float(c)) for e, c in zip(elements[mine], counts[mine])]
        return row


class ResourceModel(nn.Module):
    """One resource as a function of the bank: ``sum_t factor_t * prod_j count_tj * prod_d mask_td`` (float64).

    Forward counts are those of the present hard structure; gradients are the soft ones (A.1.2).

    Args:
        terms: factor, dimensions and depth elements of every operator (MACs) or parameter (params).
    """

    factor: Tensor
    index: Tensor
    depth: Tensor
    const: Tensor
    unit_row: Tensor
    unit_col: Tensor
    unit_mult: Tensor
    element_row: Tensor
    element_col: Tensor
    element_mult: Tensor

    def __init__(self, name: str, terms: Iterable[Term], bank: TopkBank) -> None:
        super().__init__()
        self.name = name
        rows = _Rows()
        factors, index, depth = [], [], []
        for factor, dims, blocks in terms:
            plain = 1
            entry = []
            for size, owner in dims:
                if owner is None:
                    plain *= size
                else:
                    entry.append(rows.add(size, owner, bank))
            factors.append(factor * plain)
            index.append(entry)
            depth.append(list(blocks))
        # Terms with the same counts and blocks are one term.
        merged: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
        for f, i, d in zip(factors, index, depth):
            key = (tuple(sorted(i)), tuple(sorted(d)))
            merged[key] = merged.get(key, 0.0) + f
        elements = len(bank.segment)
        self._buffer('factor', list(merged.values()), torch.float64)
        self._buffer('index', _pad([list(k[0]) for k in merged], 0), torch.long)
        self._buffer('depth', _pad([list(k[1]) for k in merged], elements), torch.long)
        self._buffer('const', rows.const, torch.float64)
        for label, triplets in (('unit', rows.unit), ('element', rows.element)):
            self._buffer(f'{label}_row', [t[0] for t in triplets], torch.long)
            self._buffer(f'{label}_col', [t[1] for t in triplets], torch.long)
            self._buffer(f'{label}_mult', [t[2] for t in triplets], torch.float64)

    def _buffer(self, name: str, values: object, dtype: torch.dtype) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

    def _apply(self, fn: object, recurse: bool = True) -> ResourceModel:
        # Counts need float64 whatever the model is cast to.
        for key, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[key] = buffer.to(fn(torch.empty(0, device=buffer.device)).device)  # type: ignore[operator]
        return self

    def _value(self, counts_of_units: Tensor, masks: Tensor) -> Tensor:
        counts = self.const
        counts = counts.index_add(0, self.unit_row, self.unit_mult * counts_of_units[self.unit_col])
        if len(self.element_row):
            counts = counts.index_add(0, self.element_row, self.element_mult * masks[self.element_col])
        value = self.factor * counts[self.index].prod(1)
        if self.depth.shape[1]:
            one = torch.ones(1, dtype=masks.dtype, device=masks.device)
            value = value * torch.cat([masks, one])[self.depth].prod(1)
        return value.sum()

    def forward(self, bank: TopkBank) -> Tensor:
        """() float64: the present hard count, differentiable in ``bank.ratio``."""
        masks = bank.hard_keep().double()
        if len(self.element_row) or self.depth.shape[1]:
            soft = bank.soft().double()
            masks = masks + soft - soft.detach()
        return self._value(bank.soft_counts(), masks)

    def continuous(self, bank: TopkBank, ratio: Tensor) -> Tensor:
        """() float64: the count for real-valued kept numbers ``(1 - ratio) N``, smooth in ``ratio`` (U,).

        A block counts with the share ``1 - a`` of its unit; elements with uneven multiplicity likewise.
        """
        share = torch.where(bank.hardened, bank.hard_counts() / bank.size, 1 - ratio.double())
        masks = share[bank.segment]
        if self.depth.shape[1]:
            masks = torch.where(bank.hardened[bank.segment], bank.keep.double(), masks)
        return self._value(share * bank.size, masks)

    @torch.no_grad()
    def count(self, keep: Tensor, bank: TopkBank) -> int:
        """Exact count of a hard structure, ``keep`` (N,) bool."""
        masks = keep.double()
        kept = torch.zeros(len(bank.sizes), dtype=torch.float64, device=masks.device).index_add(0, bank.segment, masks)
        return self.count_by_numbers(kept, masks)

    @property
    def needs_masks(self) -> bool:
        """Whether it matters which elements of a width are kept, not only how many."""
        return len(self.element_row) > 0

    @torch.no_grad()
    def count_by_numbers(self, kept: Tensor, masks: Tensor) -> int:
        """Exact count for (U,) kept numbers; of ``masks`` (N,) only blocks matter unless :attr:`needs_masks`."""
        return round(float(self._value(kept.double(), masks.double())))


def _pad(rows: Sequence[list[int]], value: int) -> list[list[int]]:
    width = max((len(r) for r in rows), default=0)
    return [r + [value] * (width - len(r)) for r in rows]
