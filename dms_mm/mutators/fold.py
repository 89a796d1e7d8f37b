"""Masks folded into parameters as they are read (DESIGN 3.3).

``conv(x * m, W)`` equals ``conv(x, W * m)``: so the consumer's weight is multiplied when its module reads it, and
neither the module's class nor its parameters change. Reading goes through a property that is put on the class once; a
module without a fold reads its parameter as before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..topk import TopkBank
from ..tracing.wholes.norms import NormSpec, masked_forward
from ..tracing.wholes.standardised import StandardSpec, convolve, standardise

FOLDS = '_dms_folds'
_raw = 0


@contextlib.contextmanager
def raw_parameters() -> Iterator[None]:
    """While inside, modules show their parameters as they are, for code that collects them by attribute."""
    global _raw
    _raw += 1
    try:
        yield
    finally:
        _raw -= 1


class Fold:
    """The product of a parameter with the masks of its dimensions.

    ``pieces`` holds per masked dimension the units in it and, unless the dimension is exactly one unit in its own
    order, the index of every position into the concatenation of these units' masks and a constant one.
    ``scalars`` holds (unit, element) of the depth masks that scale the whole parameter.
    """

    def __init__(self, bank: TopkBank) -> None:
        self.bank = bank
        self.pieces: list[tuple[int, list[int], Tensor | None]] = []
        self.scalars: list[tuple[int, int]] = []

    def dim_mask(self, units: Sequence[int], index: Tensor | None) -> Tensor:
        leaves = [self.bank.leaves[u] for u in units]
        if index is None:
            return leaves[0]
        ones = torch.ones(1, dtype=leaves[0].dtype, device=leaves[0].device)
        return torch.cat([*leaves, ones])[index]

    def __call__(self, weight: Tensor) -> Tensor:
        for i, (dim, units, index) in enumerate(self.pieces):
            if index is not None and index.device != weight.device:
                index = index.to(weight.device)
                self.pieces[i] = (dim, units, index)
            mask = self.dim_mask(units, index).to(weight.dtype)
            weight = weight * mask.view([-1 if d == dim else 1 for d in range(weight.ndim)])
        for unit, element in self.scalars:
            weight = weight * self.bank.leaves[unit][element].to(weight.dtype)
        return weight


class OutputMask:
    """Forward hook that scales a branch's output where no affine could take the mask."""

    def __init__(self, bank: TopkBank, unit: int, element: int) -> None:
        self.bank, self.unit, self.element = bank, unit, element

    def __call__(self, module: nn.Module, args: Any, out: Any) -> Any:
        mask = self.bank.leaves[self.unit][self.element]
        if isinstance(out, tuple):
            return (out[0] * mask.to(out[0].dtype), *out[1:])
        return out * mask.to(out.dtype)


class MaskedNorm:
    """The forward of a norm over pruned channels: statistics weighted by the mask (DESIGN 3.3)."""

    def __init__(self, module: nn.Module, spec: NormSpec, mask: Fold) -> None:
        self.module, self.spec, self.mask = module, spec, mask
        self.ones: Tensor | None = None

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        module = self.module
        units = [u for _, units, _ in self.mask.pieces for u in units]
        if not any(self.mask.bank.cut[u] for u in units):
            return type(module).forward(module, x, *args, **kwargs)  # every mask is one
        size = x.shape[self.spec.dim]
        if self.ones is None or self.ones.device != x.device:
            self.ones = torch.ones(size, device=x.device, dtype=self.mask.bank.mask.dtype)
        return masked_forward(module, x, self.spec, self.mask(self.ones.to(self.mask.bank.mask.dtype)))


class MaskedConvolution:
    """The forward of a convolution with a standardised weight: statistics over what lives, masks behind them."""

    def __init__(self, module: nn.Module, spec: StandardSpec, mask: Fold) -> None:
        self.module, self.spec, self.mask = module, spec, mask

    def __call__(self, x: Tensor) -> Tensor:
        module, bank = self.module, self.mask.bank
        weight: Any = module._parameters['weight']
        fold = module.__dict__.get(FOLDS, {}).get('weight')
        units = [u for f in (self.mask, fold) if f is not None for _, units, _ in f.pieces for u in units]
        units += [unit for unit, _ in fold.scalars] if fold is not None else []
        if not any(bank.cut[u] for u in units):
            return type(module).forward(module, x)  # every mask is one
        mask = self.mask(torch.ones(weight.shape[1], device=weight.device, dtype=bank.mask.dtype))
        weight = standardise(weight, self.spec, mask, module._parameters.get('gain'))
        return convolve(module, x, weight if fold is None else fold(weight), self.spec.same)


class Compact:
    """The forward of a module that mixes channels: on those that live. The others pass as they are."""

    def __init__(self, module: nn.Module, dim: int, mask: Fold) -> None:
        self.module, self.dim, self.mask = module, dim, mask

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        bank = self.mask.bank
        cut = {u for _, units, _ in self.mask.pieces for u in units if bank.cut[u]}
        if not cut:
            return type(self.module).forward(self.module, x, *args, **kwargs)
        keep = bank.hard_keep()
        alive = torch.ones(x.shape[self.dim], dtype=torch.bool, device=keep.device)
        for _, units, index in self.mask.pieces:
            whole = torch.cat([*(keep[bank.segment == u] for u in units), alive.new_ones(1)])
            alive &= whole[:-1] if index is None else whole[index.to(keep.device)]
        place = torch.nonzero(alive).ravel().to(x.device)
        y = type(self.module).forward(self.module, x.index_select(self.dim, place), *args, **kwargs)
        return x.index_copy(self.dim, place, y.to(x.dtype))


def replace_forward(forward: MaskedNorm | MaskedConvolution | Compact) -> None:
    """Replace the forward of its one module; the module's class and parameters stay."""
    forward.module.__dict__['forward'] = forward


def _property(name: str) -> property:
    def read(self: nn.Module) -> Any:
        parameters = self.__dict__.get('_parameters', {})
        if name not in parameters:
            parameters = self.__dict__.get('_buffers', {})
        if name not in parameters:
            if name in self.__dict__:
                return self.__dict__[name]
            raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')
        value = parameters[name]
        folds = self.__dict__.get(FOLDS)
        if folds is None or name not in folds or value is None or _raw:
            return value
        return folds[name](value)

    def write(self: nn.Module, value: Any) -> None:
        # Parameters never get here (Module.__setattr__ takes them); hooks such as weight_norm set plain tensors.
        self.__dict__[name] = value

    read.__name__ = f'dms_{name}'
    return property(read, write)


def fold_of(module: nn.Module, name: str, bank: TopkBank) -> Fold:
    """The fold of a module's parameter, made at the first call; installs the class's property."""
    cls = type(module)
    present = getattr(cls, name, None)
    if not (isinstance(present, property) and present.fget and present.fget.__name__ == f'dms_{name}'):
        if present is not None:
            raise TypeError(f'{cls.__qualname__}.{name} is already a class attribute; its mask cannot be folded')
        setattr(cls, name, _property(name))
    folds = module.__dict__.setdefault(FOLDS, {})
    if name not in folds:
        folds[name] = Fold(bank)
    return folds[name]


def has_folds(model: nn.Module) -> bool:
    """Masks are folded into some of the model's parameters."""
    return any(FOLDS in module.__dict__ for module in model.modules())


def strip(model: nn.Module) -> nn.Module:
    """Take every fold and output mask off a model, in place."""
    for module in model.modules():
        module.__dict__.pop(FOLDS, None)
        if isinstance(module.__dict__.get('forward'), (MaskedNorm, MaskedConvolution, Compact)):
            del module.__dict__['forward']
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, OutputMask):
                del module._forward_hooks[key]
    return model
