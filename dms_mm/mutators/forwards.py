"""Forwards of single modules whose masks can't be folded into a weight, and what else is put on masked modules.

Each is an attribute of the one module; its class stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..topk import TopkBank
from ..tracing.wholes.norms import NormSpec, masked_forward
from ..tracing.wholes.standardised import StandardSpec, convolve, standardise
from .choices import ScoreMasks
from .products import Fold
from .stores import FOLDS, FoldedTensors, stored

REPLICATE = '_replicate_for_data_parallel'  # what torch.nn.parallel.replicate asks of every module
SCRIPT = '__prepare_scriptable__'  # and torch.jit.script
FLAT = ('_update_flat_weights', '_init_flat_weights')  # what fills a recurrent layer's flat list of weights


class MaskedNorm:
    """The forward of a norm over pruned channels: statistics weighted by the mask (DESIGN 3.3).

    ``out`` is the mask of its output, where no factor of what the norm stores is one of the gain that it uses.
    """

    def __init__(self, module: nn.Module, spec: NormSpec, mask: Fold, out: Fold | None = None) -> None:
        self.module, self.spec, self.mask, self.out = module, spec, mask, out
        self.before = module.__dict__.get('forward')

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        units = [u for _, units, _ in self.mask.pieces for u in units]
        if _whole(self.mask.bank, units):
            y: Tensor = plain_forward(self, x, *args, **kwargs)
        else:
            y = masked_forward(self.module, x, self.spec, self.mask(self._ones(x)))
        if self.out is None:
            return y
        dim = self.spec.dim % y.ndim
        return y * self.out(self._ones(y)).to(y.dtype).view([-1 if d == dim else 1 for d in range(y.ndim)])

    def _ones(self, x: Tensor) -> Tensor:
        return torch.ones(x.shape[self.spec.dim], device=x.device, dtype=self.mask.bank.mask.dtype)


class MaskedConvolution:
    """The forward of a convolution with a standardised weight: statistics over what lives, masks behind them."""

    def __init__(self, module: nn.Module, spec: StandardSpec, mask: Fold) -> None:
        self.module, self.spec, self.mask = module, spec, mask
        self.before = module.__dict__.get('forward')

    def __call__(self, x: Tensor) -> Tensor:
        module, bank = self.module, self.mask.bank
        weight: Any = stored(module, 'weight')
        fold = module.__dict__.get(FOLDS, {}).get('weight')
        units = [u for f in (self.mask, fold) if f is not None for _, units, _ in f.pieces for u in units]
        units += [unit for unit, _ in fold.scalars] if fold is not None else []
        if _whole(bank, units):
            return plain_forward(self, x)
        mask = self.mask(torch.ones(weight.shape[1], device=weight.device, dtype=bank.mask.dtype))
        weight = standardise(weight, self.spec, mask, getattr(module, 'gain', None))
        return convolve(module, x, weight if fold is None else fold(weight), self.spec.same)


class Compact:
    """The forward of a module that mixes channels: on those that live. The others pass as they are."""

    def __init__(self, module: nn.Module, dim: int, mask: Fold) -> None:
        self.module, self.dim, self.mask = module, dim, mask
        self.before = module.__dict__.get('forward')

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        bank = self.mask.bank
        cut = {u for _, units, _ in self.mask.pieces for u in units if bank.cut[u]}
        if not cut:
            return plain_forward(self, x, *args, **kwargs)
        keep = bank.showing()
        alive = torch.ones(x.shape[self.dim], dtype=torch.bool, device=keep.device)
        for _, units, index in self.mask.pieces:
            whole = torch.cat([*(keep[bank.segment == u] for u in units), alive.new_ones(1)])
            alive &= whole[:-1] if index is None else whole[index.to(keep.device)]
        place = torch.nonzero(alive).ravel().to(x.device)
        y = plain_forward(self, x.index_select(self.dim, place), *args, **kwargs)
        return x.index_copy(self.dim, place, y.to(x.dtype))


class MaskedChoice:
    """The forward of a module that chooses: each softmax or top-k in ``masks`` sees masked scores.

    ``masks`` has them, and their way, by operator, number of positions, and how many of the kind come before it.
    """

    def __init__(self, module: nn.Module, masks: Mapping[tuple[str, int, int], tuple[Fold, str]]) -> None:
        self.module, self.masks = module, dict(masks)
        self.before = module.__dict__.get('forward')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        units = [(mask.bank, [u for _, units, _ in mask.pieces for u in units]) for mask, _ in self.masks.values()]
        if all(_whole(bank, own) for bank, own in units):
            return plain_forward(self, *args, **kwargs)
        with ScoreMasks(self.masks):
            return plain_forward(self, *args, **kwargs)


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
        weights = [stored(self.module, name) for name in own['_flat_weights_names']]
        present = own.get('_flat_weights', ())
        if len(weights) != len(present) or any(a is not b for a, b in zip(weights, present)):
            own['_flat_weights'] = weights


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


Forward = MaskedNorm | MaskedConvolution | MaskedChoice | Compact
OWN = (
    MaskedNorm,
    MaskedConvolution,
    MaskedChoice,
    Compact,
    MaskedRecurrent,
    StoredWeights,
    Replicate,
)  # attributes put on modules


def _whole(bank: TopkBank, units: Sequence[int]) -> bool:
    """Every mask is one. A compiled forward doesn't look: it would be compiled anew whenever that changes."""
    return not torch.compiler.is_compiling() and not any(bank.cut[u] for u in units)


def plain_forward(masked: Forward, *args: Any, **kwargs: Any) -> Any:
    """The forward that was replaced: one that somebody had put on the module, or its class's."""
    if masked.before is not None:
        return masked.before(*args, **kwargs)
    return type(masked.module).forward(masked.module, *args, **kwargs)


def replace_forward(forward: Forward) -> None:
    """Replace the forward of its one module; the module's class and parameters stay."""
    forward.module.__dict__['forward'] = forward
    guard(forward.module)


def guard(module: nn.Module) -> None:
    """Have replicas of a module see its masks, and scripts of it fail."""
    module.__dict__.update({REPLICATE: Replicate(module), SCRIPT: _no_script})


def mask_recurrent(module: nn.Module) -> None:
    """Have an LSTM, GRU or RNN see the products; with a forward of somebody's own it finds them by itself."""
    if 'forward' not in module.__dict__:
        module.__dict__['forward'] = MaskedRecurrent(module)
        module.__dict__.update(dict.fromkeys(FLAT, StoredWeights(module)))


def restore(module: nn.Module) -> None:
    """Take off a module what this file has put on it."""
    own = module.__dict__
    for name in [name for name, value in own.items() if isinstance(value, OWN) or value is _no_script]:
        value = own.pop(name)
        if isinstance(value, StoredWeights):
            value()  # products may be among them
        elif getattr(value, 'before', None) is not None:
            own[name] = value.before
