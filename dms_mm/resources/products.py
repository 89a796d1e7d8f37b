"""Products of kept counts, evaluated with a few vector operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..topk import TopkBank

# (factor, [(size, element of each position or -1) or a plain size], [depth elements]); a depth element ``~e`` stands
# for one minus the mask of ``e``: the term counts without that block.
Dim = tuple[int, np.ndarray | None]
Term = tuple[float, list[Dim], list[int]]


@dataclass
class _Rows:
    """Distinct dimensions: kept count = const + sum of multiplicities of the kept elements."""

    const: list[float] = field(default_factory=lambda: [1.0])  # row 0 is the constant one
    unit: list[tuple[int, int, float]] = field(default_factory=list)
    element: list[tuple[int, int, float]] = field(default_factory=list)
    known: dict[bytes, int] = field(default_factory=dict)

    def add(self, owner: np.ndarray, bank: TopkBank) -> int:
        key = owner.tobytes()
        if key in self.known:
            return self.known[key]
        row = len(self.const)
        self.known[key] = row
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


class Products(nn.Module):
    """(G,) sums of terms ``factor * prod_j count_j * prod_d mask_d``, one for each group of terms.

    Args:
        groups: the terms of every group: factor, dimensions and depth elements.

    Attributes:
        full: (G,) float64, the sums of the supernet.
    """

    factor: Tensor
    group: Tensor
    index: Tensor
    depth: Tensor
    const: Tensor
    unit_row: Tensor
    unit_col: Tensor
    unit_mult: Tensor
    element_row: Tensor
    element_col: Tensor
    element_mult: Tensor
    full: Tensor

    def __init__(self, groups: Iterable[Iterable[Term]], bank: TopkBank) -> None:
        super().__init__()
        rows = _Rows()
        # Terms of a group with the same counts and blocks are one term.
        merged: dict[tuple[int, tuple[int, ...], tuple[int, ...]], float] = {}
        self.groups = 0
        for g, terms in enumerate(groups):
            self.groups = g + 1
            for factor, dims, blocks in terms:
                plain = 1
                entry = []
                for size, owner in dims:
                    if owner is None:
                        plain *= size
                    else:
                        entry.append(rows.add(owner, bank))
                key = (g, tuple(sorted(entry)), tuple(sorted(blocks)))
                merged[key] = merged.get(key, 0.0) + factor * plain
        elements = len(bank.segment)
        self._buffer('factor', list(merged.values()), torch.float64)
        self._buffer('group', [k[0] for k in merged], torch.long)
        self._buffer('index', _pad([list(k[1]) for k in merged], 0), torch.long)
        # Masks are followed by a one, and that by one minus each of them.
        places = [[e if e >= 0 else elements + 1 + ~e for e in k[2]] for k in merged]
        self._buffer('depth', _pad(places, elements), torch.long)
        self.opposite = any(e < 0 for k in merged for e in k[2])
        self._buffer('const', rows.const, torch.float64)
        for label, triplets in (('unit', rows.unit), ('element', rows.element)):
            self._buffer(f'{label}_row', [t[0] for t in triplets], torch.long)
            self._buffer(f'{label}_col', [t[1] for t in triplets], torch.long)
            self._buffer(f'{label}_mult', [t[2] for t in triplets], torch.float64)
        whole = torch.ones(elements, dtype=torch.float64)
        full = self(torch.tensor(bank.sizes, dtype=torch.float64), whole)
        self._buffer('full', full, torch.float64)

    def _buffer(self, name: str, values: object, dtype: torch.dtype) -> None:
        self.register_buffer(name, torch.as_tensor(values, dtype=dtype), persistent=False)

    @property
    def needs_masks(self) -> bool:
        """Whether it matters which elements of a width are kept, not only how many."""
        return len(self.element_row) > 0

    def terms(self, kept: Tensor, masks: Tensor) -> Tensor:
        """(T,) float64, every term for (U,) kept numbers and the masks (N,) of all elements."""
        counts = self.const
        counts = counts.index_add(0, self.unit_row, self.unit_mult * kept.index_select(0, self.unit_col))
        if len(self.element_row):
            counts = counts.index_add(0, self.element_row, self.element_mult * masks.index_select(0, self.element_col))
        value = self.factor * _picked(counts, self.index).prod(1)
        if self.depth.shape[1]:
            one = torch.ones(1, dtype=masks.dtype, device=masks.device)
            masks = torch.cat([masks, one, 1 - masks] if self.opposite else [masks, one])
            value = value * _picked(masks, self.depth).prod(1)
        return value

    def forward(self, kept: Tensor, masks: Tensor) -> Tensor:
        """(G,) float64, the sum of every group."""
        return torch.zeros(self.groups, dtype=torch.float64, device=masks.device).index_add(
            0, self.group, self.terms(kept, masks)
        )


def _picked(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]``, by a selection that is several times faster, backward too."""
    return values.index_select(0, index.view(-1)).view(index.shape)


def _pad(rows: Sequence[list[int]], value: int) -> np.ndarray:
    width = max((len(r) for r in rows), default=0)
    return np.array([r + [value] * (width - len(r)) for r in rows], dtype=np.int64).reshape(len(rows), width)
