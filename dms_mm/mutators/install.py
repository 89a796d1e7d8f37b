"""Masks onto a model: those of widths into consumers, those of blocks into the last affine of each branch."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..mutables import DepthUnit, MutableUnit, Ownership
from ..topk import TopkBank
from ..tracing import IntArray, Trace
from ..tracing.findings import Choice
from ..tracing.wholes.norms import GAINS
from .fold import (
    FOLDS,
    Compact,
    Fold,
    MaskedChoice,
    MaskedConvolution,
    MaskedNorm,
    OutputMask,
    fold_of,
    replace_forward,
)
from .stores import stored

Masked = dict[tuple[str, int], 'set[int] | None']  # dimensions of parameters -> the units whose masks they take
Piece = tuple[list[int], Tensor | None]  # units of a dimension, and the index of every position; see Fold


class _Lines:
    """From the ids of a dimension to the masks of the units in it. Masks of blocks are put elsewhere."""

    def __init__(self, trace: Trace, ownership: Ownership, units: Sequence[MutableUnit]) -> None:
        self.trace, self.ownership = trace, ownership
        self.starts = np.array([unit.start for unit in units])
        self.sizes = [unit.size for unit in units]
        self.depth = np.array([isinstance(unit, DepthUnit) for unit in units])
        self.owner_of = functools.cache(self._owner_of)
        self.units_of = functools.cache(self._units_of)

    def _owner_of(self, name: str, dim: int) -> IntArray:
        """(n, K) elements of the positions of a parameter's dimension."""
        return self.ownership.owner(self.trace.params[name][dim])

    def _units_of(self, name: str, dim: int) -> frozenset[int]:
        return self.units_in(self.owner_of(name, dim))

    def units_in(self, owner: IntArray) -> frozenset[int]:
        return frozenset(np.unique(self.ownership.units[owner[owner >= 0]]).tolist())

    def pieces(self, owner: IntArray, only: set[int] | None = None) -> Iterator[Piece]:
        """The masks of each column of a dimension's elements, or those of the units ``only``.

        What a block concatenates stays as a copy of its input while the block is masked.
        """
        for column in owner.T:
            unit = self.ownership.units[np.maximum(column, 0)]
            inside = (column >= 0) & ~self.depth[unit]
            if only is not None:
                inside &= np.isin(unit, list(only))
            if not inside.any():
                continue
            units = list(dict.fromkeys(unit[inside].tolist()))
            offset = np.zeros(len(self.starts), dtype=np.int64)
            total = 0
            for u in units:
                offset[u] = total
                total += self.sizes[u]
            index = np.full(len(column), total, dtype=np.int64)
            index[inside] = column[inside] - self.starts[unit[inside]] + offset[unit[inside]]
            plain = len(units) == 1 and np.array_equal(index, np.arange(self.sizes[units[0]]))
            yield units, None if plain else torch.from_numpy(index)


def install(model: nn.Module, trace: Trace, ownership: Ownership, units: Sequence[MutableUnit], bank: TopkBank) -> None:
    """Put the masks of ``bank`` onto the model, in place.

    Channel masks are folded into the weights that consume the channels, or that make them where that was asked for;
    norms, standardised convolutions and modules that mix channels get a forward that sees the masks; depth masks go
    into the last affine of each branch, or onto its output.
    """
    lines = _Lines(trace, ownership, units)
    holders = _holders(model)
    offsets = _offsets(model, trace)
    by_output = _masked_by_output(model, trace)
    masked = _masked(trace, lines)
    for (name, dim), only in masked.items():
        for module, key in holders[name]:
            if (module, key) in by_output:
                continue
            fold_of(module, key, bank, offsets.get((module, key), 0.0)).pieces += [
                (dim, *piece) for piece in lines.pieces(lines.owner_of(name, dim), only)
            ]
    _replace_forwards(model, trace, lines, bank, masked)
    for unit in units:
        if isinstance(unit, DepthUnit):
            _mask_blocks(model, unit, holders, bank, offsets)
    folds = [(fold, stored(m, key)) for m in model.modules() for key, fold in m.__dict__.get(FOLDS, {}).items()]
    bank.ask(shape for fold, parameter in folds for shape in fold.shapes(parameter))


def _holders(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Parameter or buffer -> every module that has it, and its name there."""
    holders: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for key, x in [*module._parameters.items(), *module._buffers.items()]:
            if x is not None:
                holders.setdefault(id(x), []).append((module, key))
    tensors: dict[str, Tensor] = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    return {name: holders[id(x)] for name, x in tensors.items()}


def _offsets(model: nn.Module, trace: Trace) -> dict[tuple[nn.Module, str], float]:
    """What norms add to the gain that they store: masks are of the gain that they use."""
    norms = [(model.get_submodule(path), spec.offset) for path, (spec, _) in trace.norms.items() if spec.offset]
    return {(module, gain): offset for module, offset in norms for gain in GAINS if gain in module._parameters}


def _masked_by_output(model: nn.Module, trace: Trace) -> set[tuple[nn.Module, str]]:
    """Gains and biases of norms that use a function of the gain that they store."""
    norms = [model.get_submodule(path) for path, (spec, _) in trace.norms.items() if spec.gain]
    return {(module, key) for module in norms for key in module._parameters}


def _masked(trace: Trace, lines: _Lines) -> Masked:
    """Dimensions of parameters that take masks -> the units whose, None for all.

    Consumers take the masks of all units of their dimension, producers those that were asked of them.
    """
    masked: dict[tuple[str, int], set[int] | None] = {
        place: None for place in trace.consumers if lines.units_of(*place)
    }
    for makers, ids in trace.requests:
        asked = lines.units_in(lines.ownership.owner(ids))
        for name in makers if asked else ():
            for dim in range(len(trace.params.get(name, ()))):
                place = trace.linear((name, dim))
                before = masked.get(place, set())
                if place not in trace.barred and before is not None and asked & lines.units_of(*place):
                    masked[place] = before | asked
    return masked


def _replace_forwards(model: nn.Module, trace: Trace, lines: _Lines, bank: TopkBank, masked: Masked) -> None:
    def mask_of(owner: IntArray) -> Fold:
        fold = Fold(bank)
        fold.pieces = [(0, *piece) for piece in lines.pieces(owner)]
        return fold

    for path, (norm, ids) in trace.norms.items():
        owner = lines.ownership.owner(ids)
        if (owner >= 0).any():
            module = model.get_submodule(path)
            asked = next((p for k in module._parameters if norm.gain and (p := (f'{path}.{k}', 0)) in masked), None)
            out = None
            if asked is not None:
                out = Fold(bank)
                out.pieces = [(0, *piece) for piece in lines.pieces(lines.owner_of(*asked), masked[asked])]
            replace_forward(MaskedNorm(module, norm, mask_of(owner), out))
            if isinstance(model.get_submodule(path.rpartition('.')[0]), nn.TransformerEncoderLayer):
                module.register_forward_hook(Unfused(bank))
    for path, (standard, inputs) in trace.standardised.items():
        # Masks of its rows and its block come behind the standardisation, whether or not its inputs are pruned.
        mask = Fold(bank) if inputs is None else mask_of(lines.ownership.owner(inputs))
        replace_forward(MaskedConvolution(model.get_submodule(path), standard, mask))
    for path, choices in _choices(trace).items():
        masks = {(c.operator, c.size, c.nth): (mask_of(lines.ownership.owner(c.ids)), c.way) for c in choices}
        if any(mask.pieces for mask, _ in masks.values()):
            replace_forward(MaskedChoice(model.get_submodule(path), masks))
    for path, (mixing, ids) in trace.compact.items():
        replace_forward(Compact(model.get_submodule(path), mixing.dim, mask_of(lines.ownership.owner(ids))))


def _choices(trace: Trace) -> dict[str, list[Choice]]:
    """Module -> what it chooses among."""
    found: dict[str, list[Choice]] = {}
    for choice in trace.choices:
        found.setdefault(choice.module, []).append(choice)
    return found


class Unfused(OutputMask):
    """A hook that does nothing, but keeps nn.TransformerEncoderLayer from its fused kernel, which calls no norm."""

    def __init__(self, bank: TopkBank) -> None:
        super().__init__(bank, 0, 0)

    def __call__(self, module: nn.Module, args: Any, out: Any) -> None: ...

    def __deepcopy__(self, memo: dict[int, Any]) -> Unfused:
        return Unfused(memo.get(id(self.bank), self.bank))


def _mask_blocks(
    model: nn.Module,
    unit: DepthUnit,
    holders: dict[str, list[tuple[nn.Module, str]]],
    bank: TopkBank,
    offsets: dict[tuple[nn.Module, str], float],
) -> None:
    for element, (block, carriers) in enumerate(zip(unit.blocks, unit.carriers)):
        for branch, names in carriers.items():
            for name in names:
                for module, key in holders[name]:
                    fold_of(module, key, bank, offsets.get((module, key), 0.0)).scalars.append((unit.index, element))
            if not names:
                end = model.get_submodule(f'{block}.{branch}')
                end.register_forward_hook(OutputMask(bank, unit.index, element))
