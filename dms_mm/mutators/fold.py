"""Masks folded into parameters as they are read (DESIGN 3.3).

``conv(x * m, W)`` equals ``conv(x, W * m)``: so the consumer's weight is multiplied when its module reads it, and
neither the module's class nor its parameters change (:mod:`.stores`). What can't be folded so, the statistics of norms
for one, is a forward of the one module.
"""

from __future__ import annotations

from torch import nn

from ..topk import TopkBank
from .forwards import (
    Compact,
    MaskedChoice,
    MaskedConvolution,
    MaskedNorm,
    guard,
    mask_recurrent,
    replace_forward,
    restore,
)
from .products import Fold, OutputMask
from .stores import FOLDS, fold_store, plain_stores, raw_parameters

__all__ = [
    'FOLDS', 'Compact', 'Fold', 'MaskedChoice', 'MaskedConvolution', 'MaskedNorm', 'OutputMask', 'fold_of', 'has_folds',
    'raw_parameters', 'replace_forward', 'share_bank', 'strip',
]  # fmt: skip


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
        guard(module)
        if isinstance(module, nn.RNNBase):
            mask_recurrent(module)
    return folds[name]


def has_folds(model: nn.Module) -> bool:
    """Masks are folded into some of the model's parameters."""
    return any(FOLDS in module.__dict__ for module in model.modules())


def share_bank(model: nn.Module, bank: TopkBank) -> None:
    """Have all masks on a model be those of another bank for the same units."""
    for module in model.modules():
        masks = [*module.__dict__.get(FOLDS, {}).values(), *module._forward_hooks.values()]
        masks += [v.mask for v in module.__dict__.values() if isinstance(v, (MaskedNorm, MaskedConvolution, Compact))]
        masks += [v.out for v in module.__dict__.values() if isinstance(v, MaskedNorm)]
        masks += [mask for v in module.__dict__.values() if isinstance(v, MaskedChoice) for mask, _ in v.masks.values()]
        for mask in masks:
            if isinstance(mask, (Fold, OutputMask)):
                mask.bank = bank


def strip(model: nn.Module) -> nn.Module:
    """Take every fold and output mask off a model, in place."""
    for module in model.modules():
        plain_stores(module)
        module.__dict__.pop(FOLDS, None)
        restore(module)
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, OutputMask):
                del module._forward_hooks[key]
    return model
