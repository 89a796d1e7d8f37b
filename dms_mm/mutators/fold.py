"""Masks folded into parameters as they are read (DESIGN 3.3).

``conv(x * m, W)`` equals ``conv(x, W * m)``: so the consumer's weight is multiplied when its module reads it, and
neither the module's class nor its parameters change (:mod:`.stores`). What can't be folded so, the statistics of norms
for one, is a forward of the one module.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..topk import TopkBank
from ..tracing.wholes.norms import NormSpec, masked_forward
from ..tracing.wholes.standardised import StandardSpec, convolve, standardise
from .stores import FoldedTensors, fold_store, plain_stores, raw_parameters, stored

__all__ = ['Fold', 'fold_of', 'has_folds', 'raw_parameters', 'share_bank', 'strip']

FOLDS = '_dms_folds'
REPLICATE = '_replicate_for_data_parallel'  # what torch.nn.parallel.replicate asks of every module
SCRIPT = '__prepare_scriptable__'  # and torch.jit.script
FLAT = ('_update_flat_weights', '_init_flat_weights')  # what fills a recurrent layer's flat list of weights


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

    def dim_mask(self, units: Sequence[int], index: Tensor | None) -> Tensor:
        leaves = [self.bank.leaves[u] for u in units]
        if index is None:
            return leaves[0]
        ones = torch.ones(1, dtype=leaves[0].dtype, device=leaves[0].device)
        return torch.cat([*leaves, ones])[index]

    def __call__(self, weight: Tensor) -> Tensor:
        for i, (dim, units, index) in enumerate(self.pieces):
            if index is not None and index.device != self.bank.mask.device:
                index = index.to(self.bank.mask.device)
                self.pieces[i] = (dim, units, index)
            mask = self.dim_mask(units, index).view([-1 if d == dim else 1 for d in range(weight.ndim)])
            weight = self._scaled(weight, mask)
        for unit, element in self.scalars:
            weight = self._scaled(weight, self.bank.leaves[unit][element])
        return weight

    def _scaled(self, weight: Tensor, mask: Tensor) -> Tensor:
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
        masked = first * self.bank.leaves[self.unit][self.element].to(first.device, first.dtype)
        return (masked, *out[1:]) if isinstance(out, tuple) else masked

    def __deepcopy__(self, memo: dict[int, Any]) -> OutputMask:
        return OutputMask(memo.get(id(self.bank), self.bank), self.unit, self.element)


class MaskedNorm:
    """The forward of a norm over pruned channels: statistics weighted by the mask (DESIGN 3.3)."""

    def __init__(self, module: nn.Module, spec: NormSpec, mask: Fold) -> None:
        self.module, self.spec, self.mask = module, spec, mask

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        module = self.module
        units = [u for _, units, _ in self.mask.pieces for u in units]
        if _whole(self.mask.bank, units):
            return type(module).forward(module, x, *args, **kwargs)
        ones = torch.ones(x.shape[self.spec.dim], device=x.device, dtype=self.mask.bank.mask.dtype)
        return masked_forward(module, x, self.spec, self.mask(ones))


class MaskedConvolution:
    """The forward of a convolution with a standardised weight: statistics over what lives, masks behind them."""

    def __init__(self, module: nn.Module, spec: StandardSpec, mask: Fold) -> None:
        self.module, self.spec, self.mask = module, spec, mask

    def __call__(self, x: Tensor) -> Tensor:
        module, bank = self.module, self.mask.bank
        weight: Any = stored(module, 'weight')
        fold = module.__dict__.get(FOLDS, {}).get('weight')
        units = [u for f in (self.mask, fold) if f is not None for _, units, _ in f.pieces for u in units]
        units += [unit for unit, _ in fold.scalars] if fold is not None else []
        if _whole(bank, units):
            return type(module).forward(module, x)
        mask = self.mask(torch.ones(weight.shape[1], device=weight.device, dtype=bank.mask.dtype))
        weight = standardise(weight, self.spec, mask, getattr(module, 'gain', None))
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


class MaskedRecurrent:
    """The forward of an LSTM, GRU or RNN: on a double of the module whose flat list of weights holds the products.

    The module's own list holds what is stored, whatever copies the module or moves it in between.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module = self.module
        double = module.__new__(type(module))
        names = module.__dict__['_flat_weights_names']
        own = dict(_flat_weights=[getattr(module, name, None) for name in names], _update_flat_weights=_nothing)
        double.__dict__ = {**module.__dict__, **own}
        out = type(module).forward(double, *args, **kwargs)
        # What a subclass keeps on itself belongs to the module.
        kept = {k: v for k, v in double.__dict__.items() if k not in own and module.__dict__.get(k) is not v}
        module.__dict__.update(kept)
        return out


class StoredWeights:
    """In place of what fills a recurrent layer's flat list of weights by reading them: with what is stored."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self) -> None:
        own = self.module.__dict__
        own['_flat_weights'] = [stored(self.module, name) for name in own['_flat_weights_names']]


def _nothing() -> None: ...


def _no_script(*args: Any) -> Any:
    raise RuntimeError(
        'a searchable model cannot be scripted: its masks would stay as they are now; script space.slim()'
    )


class Replicate:
    """Makes replicas of a module that see its masks: what is set on them is folded as it is read, too."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self) -> nn.Module:
        module = self.module
        replica: nn.Module = getattr(type(module), REPLICATE)(module)
        own = replica.__dict__
        folds = own.get(FOLDS, {})
        # Parameters of replicas are set as plain attributes; those with masks go among the buffers, which are folded.
        names = [name for name in module._parameters if name in folds]
        own['_buffers'] = FoldedTensors({**dict.fromkeys(names), **own['_buffers']}, folds)
        del own[REPLICATE]
        for name, value in list(own.items()):
            if isinstance(value, OWN):
                own[name] = copy.copy(value)
                own[name].module = replica
        return replica


OWN = (MaskedNorm, MaskedConvolution, Compact, MaskedRecurrent, StoredWeights, Replicate)  # attributes put on modules


def _whole(bank: TopkBank, units: Sequence[int]) -> bool:
    """Every mask is one. A compiled forward doesn't look: it would be compiled anew whenever that changes."""
    return not torch.compiler.is_compiling() and not any(bank.cut[u] for u in units)


def replace_forward(forward: MaskedNorm | MaskedConvolution | Compact | MaskedRecurrent) -> None:
    """Replace the forward of its one module; the module's class and parameters stay."""
    own = forward.module.__dict__
    own.update({'forward': forward, REPLICATE: Replicate(forward.module), SCRIPT: _no_script})


def fold_of(module: nn.Module, name: str, bank: TopkBank, offset: float = 0.0) -> Fold:
    """The fold of a module's parameter or buffer, made at the first call.

    Raises:
        TypeError: an attribute hides the parameter.
    """
    folds = module.__dict__.get(FOLDS, {})
    if name not in folds:
        fold_store(module, name, folds)
        module.__dict__[FOLDS] = folds
        folds[name] = Fold(bank, offset)
        module.__dict__.update({REPLICATE: Replicate(module), SCRIPT: _no_script})
        if isinstance(module, nn.RNNBase) and 'forward' not in module.__dict__:
            replace_forward(MaskedRecurrent(module))
            module.__dict__.update(dict.fromkeys(FLAT, StoredWeights(module)))
    return folds[name]


def has_folds(model: nn.Module) -> bool:
    """Masks are folded into some of the model's parameters."""
    return any(FOLDS in module.__dict__ for module in model.modules())


def share_bank(model: nn.Module, bank: TopkBank) -> None:
    """Have all masks on a model be those of another bank for the same units."""
    for module in model.modules():
        masks = [*module.__dict__.get(FOLDS, {}).values(), *module._forward_hooks.values()]
        masks += [value.mask for value in module.__dict__.values() if isinstance(value, OWN) and hasattr(value, 'mask')]
        for mask in masks:
            if isinstance(mask, (Fold, OutputMask)):
                mask.bank = bank


def strip(model: nn.Module) -> nn.Module:
    """Take every fold and output mask off a model, in place."""
    for module in model.modules():
        plain_stores(module)
        module.__dict__.pop(FOLDS, None)
        for name in [name for name, value in module.__dict__.items() if isinstance(value, OWN) or value is _no_script]:
            if name == FLAT[0]:
                module.__dict__[name]()  # products may be among them
            del module.__dict__[name]
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, OutputMask):
                del module._forward_hooks[key]
    return model
