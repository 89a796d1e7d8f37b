"""Convolutions with standardised weights (BiT, NFNets, mmcv's ConvWS), recognised by what they compute.

Each row of such a weight is normalised over its input channels, so it changes with the channels that live, and a factor
on the row is lost. The module is looked at as a whole: a convolution by a weight with statistics of its live channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import WHOLES
from ..findings import Entries
from ..flow import scales_with
from ..ledger import Ledger
from ..rules.convolution import convolution
from .probe import random_copy, settings_of, without_modes

PLAIN = {nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward}


@WHOLES.register_module(name='standardised')
@dataclass(frozen=True)
class StandardSpec:
    """``(w - mean) / sqrt(var + eps) * factor``, or with ``sample`` the unbiased ``(w - mean) / (std + eps) * factor``.

    A parameter ``gain`` multiplies the rows, if there is one. ``same``: the input is padded to ``ceil(size / stride)``.
    """

    eps: float
    sample: bool
    same: bool
    factor: float = 1.0

    @classmethod
    def recognise(cls, module: nn.Module, x: Any, entries: Entries, rest: Any) -> StandardSpec | None:
        """How a convolution standardises its weight, or None if it doesn't."""
        return recognise_standardised(module, x)

    def trace(self, ledger: Ledger, path: str, module: nn.Module, x: Any, out: Any) -> None:
        trace_standardised(ledger, path, module, self, x, out)


def standardise(weight: Tensor, spec: StandardSpec, mask: Tensor | None, gain: Tensor | None) -> Tensor:
    """(O, I, ...) the standardised weight, its statistics weighted by ``mask`` (I,); in float32 at least."""
    dtype = weight.dtype
    weight = weight if dtype == torch.float64 else weight.float()
    dims = list(range(1, weight.ndim))
    ones = weight.new_ones(weight.shape[1]) if mask is None else mask.to(weight.dtype)
    m = ones.view(1, -1, *[1] * (weight.ndim - 2))
    total = ones.sum() * (weight[0, 0].numel())
    centred = weight - (weight * m).sum(dims, keepdim=True) / total
    square = (centred.square() * m).sum(dims, keepdim=True)
    if spec.sample:
        result = centred / ((square / (total - 1)).sqrt() + spec.eps)
    else:
        result = centred * torch.rsqrt(square / total + spec.eps)
    result = result * spec.factor
    return (result if gain is None else result * gain.to(result.dtype).view(-1, *[1] * len(dims))).to(dtype)


def convolve(module: Any, x: Tensor, weight: Tensor, same: bool) -> Tensor:
    """The module's convolution by another weight."""
    if same:
        sides: list[int] = []
        for size, k, s, d in zip(x.shape[2:], module.kernel_size, module.stride, module.dilation):
            missing = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            sides = [missing // 2, missing - missing // 2, *sides]
        x = F.pad(x, sides)
    out: Tensor = module._conv_forward(x, weight, module.bias)
    return out


_known: dict[Any, StandardSpec | None] = {}


def recognise_standardised(module: nn.Module, x: Any) -> StandardSpec | None:
    """How a convolution standardises its weight, or None if it doesn't."""
    if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) or type(module).forward in PLAIN:
        return None
    eps = getattr(module, 'eps', None)
    own = {k for k, p in module._parameters.items() if p is not None}
    if not isinstance(eps, float) or own - {'weight', 'bias', 'gain'} or any(True for _ in module.children()):
        return None
    options = (module.kernel_size, module.stride, module.padding, module.dilation, module.groups, module.padding_mode)
    key = (type(module), tuple(module.weight.shape), options, eps, tuple(sorted(own)), settings_of(module))
    if key not in _known:
        _known[key] = _probe(module, x, eps)
    return _known[key]


@without_modes
def _probe(module: Any, x: Any, eps: float) -> StandardSpec | None:
    trial, generator = random_copy(module, -4.0, 4.0)  # a gain may be a function of what is stored
    sizes = [(k - 1) * d + 2 for k, d in zip(module.kernel_size, module.dilation)]
    data = torch.randn([1, int(x.shape[1]), *sizes], generator=generator, dtype=torch.float64)
    whole = trial.weight.clone()

    def both(spec: StandardSpec, scale: float) -> tuple[Tensor, Tensor] | None:
        """What a specification and the module make of a weight of this size, without bias."""
        trial.weight.copy_(scale * whole)
        plain = convolve(trial, data, standardise(trial.weight, spec, None, trial._parameters.get('gain')), spec.same)
        out = trial(data)
        bias = 0.0 if trial.bias is None else trial.bias.view(-1, *[1] * len(sizes))
        return (plain - bias, out - bias) if plain.shape == out.shape else None

    with torch.no_grad():
        try:
            trial(data)
        except Exception:
            return None
        for spec in [StandardSpec(eps, sample, same) for sample in (False, True) for same in (False, True)]:
            # Where the epsilon stands shows on weights of its size.
            found = [both(spec, scale) for scale in (1.0, eps**0.5, eps) if scale > 0]
            pairs = [pair for pair in found if pair is not None]
            if len(pairs) < len(found):
                continue
            a, b = pairs[0]
            factor = float((a * b).sum() / a.square().sum().clamp_min(1e-300))
            if factor > 0 and all(float((factor * a - b).abs().max()) < 1e-6 * float(b.abs().max()) for a, b in pairs):
                return replace(spec, factor=factor)
    return None


def trace_standardised(ledger: Ledger, path: str, module: Any, spec: StandardSpec, x: Any, out: Any) -> None:
    """As a plain convolution, whose gain carries the elements of the rows."""
    weight, bias, gain = (module._parameters.get(k) for k in ('weight', 'bias', 'gain'))
    ledger.use(p for p in (weight, bias, gain) if p is not None)
    padding: Sequence[int] = [0] * len(module.kernel_size)
    convolution(ledger, out, x, weight, bias, module.stride, padding, module.dilation, False, padding, module.groups)
    if gain is not None:
        rows, own = ledger.along(weight, 0), ledger.along(gain, 0)
        for ids in own:
            ledger.elements.union(ids, rows[0])
    # Masks of its rows come behind the standardisation, and so does that of its block.
    scales_with(out, [ledger.source(p) for p in (weight, bias) if p is not None])
    ledger.trace.standardised[path] = (spec, ledger.along(weight, 1)[0] if ledger.along(weight, 1) else None)
