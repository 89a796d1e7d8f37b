"""Normalisation modules, recognised by what they compute, not by their class.

A norm over pruned channels (LayerNorm, RMSNorm, GroupNorm, ConvNeXt V2's response norm) keeps its exact result only if
its statistics are taken over the channels that live. Its module is therefore looked at as a whole: which axis it
normalises, with or without mean, with which epsilon and gain, and what its own activation makes of the result. Checked
on random numbers in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import WHOLES
from ..findings import NO_CHANNELS, Entries
from ..flow import scales_with
from ..ledger import Ledger, tensors_of
from .probe import random_copy, settings_of, without_modes


@WHOLES.register_module(name='norm')
@dataclass(frozen=True)
class NormSpec:
    """``kind`` 'layer' or 'rms' over dimension ``dim``, or 'group' over ``groups`` groups of dimension 1 and space.

    'response' divides the L2 norm of each channel over space by the mean of all channels' norms, and adds the input.
    ``offset`` is added to the stored gain (Gemma stores gain - 1), or the gain is ``gain`` of it, one of
    :data:`GAIN_OF`.
    """

    kind: str
    dim: int
    eps: float
    offset: float = 0.0
    groups: int = 1
    single: bool = False  # computes in float32 whatever its input
    gain: str = ''
    last: int = 1  # dimensions at the end that are normalised together, ``dim`` among them
    zero: bool = True  # without gain and bias the result is zero, behind an activation too

    @classmethod
    def recognise(cls, module: nn.Module, x: Any, entries: Entries, rest: Any = ((), {})) -> NormSpec | None:
        """What norm a module is for an input whose channels ``entries`` are pruned, or None."""
        return recognise_norm(module, x, entries, rest) if entries else None

    def trace(self, ledger: Ledger, path: str, module: nn.Module, x: Any, out: Any) -> None:
        trace_norm(ledger, path, module, self, x, out)
        own = {k: p for k in GAINS + BIASES if (p := module._parameters.get(k)) is not None}
        linear = (
            not self.offset and not self.gain and self.kind != 'response' and not any(True for _ in module.children())
        )
        if linear and not own.keys().isdisjoint(GAINS) and isinstance(out, Tensor):
            scales_with(out, [ledger.source(p) for p in own.values()])


def weighted_norm(x: Tensor, spec: NormSpec, mask: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """The norm with statistics weighted by ``mask`` (C,): with a hard mask, those of the slim module.

    ``x`` has C positions along ``spec.dim``; computed in float32 at least.
    """
    dtype = x.dtype
    x = x if dtype == torch.float64 and not spec.single else x.float()
    mask = mask.to(x.dtype)
    dim = spec.dim % x.ndim
    shape = [-1 if d == dim else 1 for d in range(x.ndim)]
    if spec.kind == 'group':
        grouped = x.reshape(x.shape[0], spec.groups, x.shape[1] // spec.groups, -1)
        m = mask.reshape(spec.groups, -1)[None, :, :, None]
        total = m.sum((2, 3), keepdim=True) * grouped.shape[3]
        mean = (grouped * m).sum((2, 3), keepdim=True) / total
        centred = grouped - mean
        variance = (centred.square() * m).sum((2, 3), keepdim=True) / total
        y = (centred * torch.rsqrt(variance + spec.eps)).reshape(x.shape)
    elif spec.kind == 'response':
        m = (mask / mask.sum()).view(shape)
        # Of a channel of zeros, vector_norm has a gradient of zero; a square root has none.
        norm = torch.linalg.vector_norm(x, dim=[d for d in range(1, x.ndim) if d != dim], keepdim=True)
        y = x * (norm / ((norm * m).sum(dim, keepdim=True) + spec.eps))
    else:
        dims = [dim] if spec.last == 1 else list(range(x.ndim - spec.last, x.ndim))
        others = math.prod([x.shape[d] for d in dims if d != dim])  # a compiler takes no generator
        m = (mask / (mask.sum() * others)).view(shape)
        centred = x - (x * m).sum(dims, keepdim=True) if spec.kind == 'layer' else x
        y = centred * torch.rsqrt((centred.square() * m).sum(dims, keepdim=True) + spec.eps)
    if weight is not None:
        weight = weight.view(shape) if weight.ndim == 1 else weight
        y = y * (GAIN_OF[spec.gain](weight.to(y.dtype)) + spec.offset)
    if bias is not None:
        y = y + (bias.view(shape) if bias.ndim == 1 else bias).to(y.dtype)
    return (y + x if spec.kind == 'response' else y).to(dtype)


# By name, so that a spec is plain data.
GAIN_OF: dict[str, Callable[[Tensor], Tensor]] = {
    '': lambda w: w, 'exp': torch.exp, 'sigmoid': torch.sigmoid, 'softplus': F.softplus, 'tanh': torch.tanh,
    'square': torch.square, 'abs': torch.abs, 'relu': torch.relu, 'expm1': torch.expm1,
}  # fmt: skip
GAINS, BIASES = ('weight', 'gamma', 'scale', 'gain', 'g', 'alpha'), ('bias', 'beta', 'b', 'shift')


def masked_forward(module: nn.Module, x: Tensor, spec: NormSpec, mask: Tensor) -> Tensor:
    """The module with statistics weighted by ``mask`` (C,): its norm, then what it holds (dropout, activation)."""

    held = getattr(module, '_former_parameters', None) or module._parameters  # in replicas parameters are attributes

    def parameter(names: Sequence[str]) -> Tensor | None:
        return next((getattr(module, n) for n in names if held.get(n) is not None), None)

    y = weighted_norm(x, spec, mask, parameter(GAINS), parameter(BIASES))
    for child in module.children():
        y = child(y)
    return y


_known: dict[Any, NormSpec | None] = {}


def recognise_norm(module: nn.Module, x: Any, entries: Entries, rest: Any = ((), {})) -> NormSpec | None:
    """What norm a module is for an input whose channels ``entries`` are pruned, or None if it is none over them.

    ``rest`` holds the other positional and keyword arguments of its call.
    """
    if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)):
        return None
    if any(True for child in module.children() for _ in [*child.parameters(), *child.buffers()]):
        return None
    own = {k: p for k, p in module._parameters.items() if p is not None}
    last = _last_of(own.values(), x)
    if set(own) - {*GAINS, *BIASES} or (last == 1 and any(p.numel() != max(p.shape, default=0) for p in own.values())):
        return None
    if any(b is not None and b.ndim for b in module._buffers.values()):
        return None
    if not own and not isinstance(module, (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)):
        return None
    if x.ndim < 2:
        return None
    touched = {d for dims, _ in entries for d in dims}
    size = next(iter(own.values())).numel() if own else None
    if last > 1:
        dims = [d for d in range(x.ndim - last, x.ndim) if d in touched]
        if len(dims) != 1:
            return None
    else:
        dims = [
            d
            for d in (x.ndim - 1, 1)
            if size is None or (x.shape[d] == size and all(_lies(p, x, d) for p in own.values()))
        ]
    groups = getattr(module, 'num_groups', None)
    shapes = tuple(sorted((k, tuple(p.shape)) for k, p in own.items()))
    holds = tuple(repr(child) for child in module.children())
    eps = _eps(module)
    key = (
        type(module),
        shapes,
        x.ndim,
        eps,
        groups,
        tuple((d, x.shape[d]) for d in dims),
        holds,
        repr(rest),
        settings_of(module),
    )
    if key not in _known:
        _known[key] = _probe(module, x, dims, eps, groups, rest, last)
    spec = _known[key]
    if spec is None or (spec.kind != 'group' and spec.dim not in touched):
        return None
    return spec


def _lies(p: Tensor, x: Any, dim: int) -> bool:
    """Whether a parameter that is as long as ``x`` along ``dim`` would be broadcast along it: a kernel would not."""
    return p.ndim < 2 or p.numel() == 1 or x.ndim - p.ndim + list(p.shape).index(p.numel()) == dim


def _last_of(own: Iterable[Tensor], x: Any) -> int:
    """How many dimensions at the end of ``x`` gain and bias cover, if all of them cover several; else 1."""
    shapes = {tuple(p.shape) for p in own}
    shape = next(iter(shapes), ())
    several = len(shapes) == 1 and 1 < len(shape) < x.ndim and tuple(x.shape[-len(shape) :]) == shape
    return len(shape) if several else 1


def _eps(module: nn.Module) -> float | None:
    for name in ('eps', 'variance_epsilon', 'epsilon', 'norm_eps'):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    return torch.finfo(torch.float64).eps if isinstance(module, nn.RMSNorm) else None


@without_modes
def _probe(
    module: nn.Module, x: Any, dims: Sequence[int], eps: float | None, groups: int | None, rest: Any, last: int
) -> NormSpec | None:
    trial, generator = random_copy(module, -4.0, 4.0)  # of both signs: the gain may be a function of what is stored
    for dim in dict.fromkeys(dims):
        shape = [2 if d == 0 else 3 for d in range(x.ndim)]
        shape[dim] = int(x.shape[dim])
        shape[x.ndim - last :] = map(int, x.shape[x.ndim - last :]) if last > 1 else shape[x.ndim - last :]
        data = torch.randn(shape, generator=generator, dtype=torch.float64)
        try:
            with torch.no_grad():
                out = trial(data.clone(), *rest[0], **rest[1])
        except Exception:
            continue
        if not isinstance(out, Tensor) or out.shape != data.shape:
            continue

        def apart(spec: NormSpec, scale: float, data: Tensor = data) -> float:
            """Relative difference on data of this size."""
            with torch.no_grad():
                want = trial(scale * data, *rest[0], **rest[1])
                have = masked_forward(trial, scale * data, spec, data.new_ones(data.shape[spec.dim]))
            return float((have - want).abs().max() / want.abs().max())

        trials = []
        if eps is not None:
            trials = [NormSpec(kind, dim, eps, offset) for kind in ('layer', 'rms') for offset in (0.0, 1.0)]
            if groups and dim == 1 and shape[1] % groups == 0:
                trials = [NormSpec('group', 1, eps, 0.0, groups)]
        if last > 1:
            trials = [replace(spec, last=last) for spec in trials]
        else:
            trials += [replace(spec, gain=gain) for spec in trials if not spec.offset for gain in GAIN_OF if gain]
        if last == 1 and x.ndim == 4 and trial._parameters:
            # Transformers' response norm has its epsilon in its forward alone.
            trials.append(NormSpec('response', dim, 1e-6 if eps is None else eps))
        for spec in trials:
            difference = apart(spec, 1.0)
            # Norms may compute in float32 inside. Where an epsilon stands shows on data of its size.
            small = spec.eps if spec.kind == 'response' else spec.eps**0.5
            if difference < 1e-4 and (not small > 0 or apart(spec, small) < 1e-4):
                nothing = torch.zeros_like(data)
                for child in trial.children():
                    nothing = child(nothing)
                return replace(spec, single=bool(difference >= 1e-10), zero=not nothing.any())
    return None


def trace_norm(ledger: Ledger, path: str, module: nn.Module, spec: NormSpec, x: Any, out: Any) -> None:
    """Axes of a norm's output; its gain and bias carry the same elements."""
    if not isinstance(out, Tensor) or len(tensors_of(out)) != 1:
        ledger.freeze(ledger.entries(x), 'a normalisation with several outputs')
        return
    own = [p for k in GAINS + BIASES if (p := module._parameters.get(k)) is not None]
    lists = ledger.along(x, spec.dim)
    axes = [(d, ids) for d, ids in ledger.axes(x) if d != spec.dim]
    if spec.kind == 'group':
        ledger.freeze([a for a in axes if a[0] > 1], 'a normalisation over pruned positions')
        axes = [a for a in axes if a[0] == 0]
    if spec.last > 1:
        first = x.ndim - spec.last
        ledger.freeze([a for a in axes if a[0] >= first], 'a normalisation over pruned positions')
        axes = [a for a in axes if a[0] < first]
        for p in own:
            ledger.freeze([a for a in ledger.axes(p) if a[0] + first != spec.dim], NO_CHANNELS + 'places of a norm')
    ledger.use(own)
    if not lists:
        for p in own:
            ledger.freeze(ledger.entries(p), 'a norm of an input that nothing prunes')
        ledger.put(out, axes)
        return
    line = ledger.elements.fuse(lists)
    for p in own:
        for d, ids in ledger.axes(p):
            if spec.last == 1 or d + x.ndim - spec.last == spec.dim:
                ledger.elements.union(ids, line)
    if spec.kind == 'group':
        grid = line.reshape(spec.groups, -1)
        if grid.shape[1] < spec.groups:
            # Whole groups go, and with them their statistics.
            ledger.elements.union(grid, grid[:, :1])
            ledger.trace.group_norms[path] = (spec.groups, line)
        else:
            ledger.elements.union(grid, grid[:1])
            ledger.trace.norms[path] = (spec, line)
    else:
        ledger.trace.norms[path] = (spec, line)
    names = frozenset(n for n in (ledger.source(p) for p in own) if n)
    makers: frozenset[str] | None = names or ledger.makers(x)
    if spec.kind == 'response':
        # It adds its input.
        makers = None if (before := ledger.makers(x)) is None else names | before
    axes.append((spec.dim, line if len(lists) > 1 else lists[0]))
    ledger.put(out, axes, None, makers if spec.zero else None)
