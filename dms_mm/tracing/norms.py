"""Normalisation modules, recognised by what they compute, not by their class.

A norm over pruned channels (LayerNorm, RMSNorm, GroupNorm) keeps its exact result only if its statistics are taken over
the channels that live. Its module is therefore looked at as a whole: which axis it normalises, with or without mean,
with which epsilon and gain. Checked on random numbers in float64.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

if TYPE_CHECKING:
    from .rules import Entries
    from .tracer import Tracer


@dataclass(frozen=True)
class NormSpec:
    """``kind`` 'layer' or 'rms' over dimension ``dim``, or 'group' over ``groups`` groups of dimension 1 and space.

    ``offset`` is added to the stored gain (Gemma stores gain - 1).
    """

    kind: str
    dim: int
    eps: float
    offset: float = 0.0
    groups: int = 1
    single: bool = False  # computes in float32 whatever its input


def weighted_norm(x: Tensor, spec: NormSpec, mask: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """The norm with statistics weighted by ``mask`` (C,): with a hard mask, those of the slim module.

    ``x`` has C positions along ``spec.dim``; computed in float32 at least.
    """
    dtype = x.dtype
    x = x if dtype == torch.float64 and not spec.single else x.float()
    mask = mask.to(x.dtype)
    dim = spec.dim % x.ndim
    if spec.kind == 'group':
        grouped = x.reshape(x.shape[0], spec.groups, x.shape[1] // spec.groups, -1)
        m = mask.reshape(spec.groups, -1)[None, :, :, None]
        total = m.sum((2, 3), keepdim=True) * grouped.shape[3]
        mean = (grouped * m).sum((2, 3), keepdim=True) / total
        centred = grouped - mean
        variance = (centred.square() * m).sum((2, 3), keepdim=True) / total
        y = (centred * torch.rsqrt(variance + spec.eps)).reshape(x.shape)
    else:
        m = (mask / mask.sum()).view([-1 if d == dim else 1 for d in range(x.ndim)])
        centred = x - (x * m).sum(dim, keepdim=True) if spec.kind == 'layer' else x
        y = centred * torch.rsqrt((centred.square() * m).sum(dim, keepdim=True) + spec.eps)
    shape = [-1 if d == dim else 1 for d in range(x.ndim)]
    if weight is not None:
        y = y * (weight.to(y.dtype).view(shape) + spec.offset)
    if bias is not None:
        y = y + bias.to(y.dtype).view(shape)
    return y.to(dtype)


def _without_modes(function: Callable[..., NormSpec | None]) -> Callable[..., NormSpec | None]:
    @functools.wraps(function)
    def run(*args: Any) -> NormSpec | None:
        with _disable_current_modes():
            return function(*args)

    return run


_known: dict[Any, NormSpec | None] = {}


def recognise_norm(module: nn.Module, x: Any, entries: Entries) -> NormSpec | None:
    """What norm a module is for an input whose channels ``entries`` are pruned, or None if it is none over them."""
    if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)):
        return None
    if any(True for _ in module.children() if not isinstance(_, nn.Identity) and not _is_idle(_)):
        return None
    own = {k: p for k, p in module._parameters.items() if p is not None}
    if set(own) - {'weight', 'bias', 'gamma', 'beta', 'scale'} or any(p.ndim != 1 for p in own.values()):
        return None
    if any(b is not None and b.ndim for b in module._buffers.values()):
        return None
    if not own and not isinstance(module, (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)):
        return None
    eps = _eps(module)
    if eps is None or x.ndim < 2:
        return None
    touched = {d for dims, _ in entries for d in dims}
    size = next(iter(own.values())).shape[0] if own else None
    dims = [d for d in (x.ndim - 1, 1) if size is None or x.shape[d] == size]
    groups = getattr(module, 'num_groups', None)
    shapes = tuple(sorted((k, tuple(p.shape)) for k, p in own.items()))
    key = (type(module), shapes, x.ndim, eps, groups, tuple((d, x.shape[d]) for d in dims))
    if key not in _known:
        _known[key] = _probe(module, x, dims, eps, groups)
    spec = _known[key]
    if spec is None or (spec.kind != 'group' and spec.dim not in touched):
        return None
    return spec


def _is_idle(module: nn.Module) -> bool:
    return isinstance(module, nn.Dropout) or type(module).__name__ in ('DropPath', 'Identity')


def _eps(module: nn.Module) -> float | None:
    for name in ('eps', 'variance_epsilon', 'epsilon', 'norm_eps'):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    return torch.finfo(torch.float64).eps if isinstance(module, nn.RMSNorm) else None


@_without_modes
def _probe(module: nn.Module, x: Any, dims: Sequence[int], eps: float, groups: int | None) -> NormSpec | None:
    generator = torch.Generator().manual_seed(0)
    memo = {
        id(p): nn.Parameter(torch.rand(p.shape, generator=generator, dtype=torch.float64), requires_grad=False)
        for p in module.parameters()
    }
    trial = copy.deepcopy(module, memo).eval()  # type: ignore[arg-type]
    for m in trial.modules():
        m._forward_hooks.clear()
        m._forward_pre_hooks.clear()
    weight = next(
        (trial._parameters[k] for k in ('weight', 'gamma', 'scale') if trial._parameters.get(k) is not None), None
    )
    bias = next((trial._parameters[k] for k in ('bias', 'beta') if trial._parameters.get(k) is not None), None)
    for dim in dict.fromkeys(dims):
        shape = [2 if d == 0 else 3 for d in range(x.ndim)]
        shape[dim] = int(x.shape[dim])
        data = torch.randn(shape, generator=generator, dtype=torch.float64)
        try:
            with torch.no_grad():
                out = trial(data)
        except Exception:
            continue
        if not isinstance(out, Tensor) or out.shape != data.shape:
            continue
        ones = torch.ones(shape[dim], dtype=torch.float64)
        trials = [NormSpec('layer', dim, eps), NormSpec('rms', dim, eps), NormSpec('rms', dim, eps, 1.0)]
        if groups and dim == 1 and shape[1] % groups == 0:
            trials = [NormSpec('group', 1, eps, 0.0, groups)]
        for spec in trials:
            # Norms may compute in float32 inside.
            difference = (weighted_norm(data, spec, ones, weight, bias) - out).abs().max()
            if difference < 1e-4 * out.abs().max():
                return spec if difference < 1e-10 else replace(spec, single=True)
    return None


def trace_norm(t: Tracer, path: str, module: nn.Module, spec: NormSpec, x: Any, out: Any) -> None:
    """Axes of a norm's output; its gain and bias carry the same elements."""
    if not isinstance(out, Tensor) or len(t.tensors(out)) != 1:
        t.freeze(t.entries(x), 'a normalisation with several outputs')
        return
    own = [
        p for p in (module._parameters.get(k) for k in ('weight', 'gamma', 'scale', 'bias', 'beta')) if p is not None
    ]
    lists = t.along(x, spec.dim)
    axes = [(d, ids) for d, ids in t.axes(x) if d != spec.dim]
    if spec.kind == 'group':
        t.freeze([a for a in axes if a[0] > 1], 'a normalisation over pruned positions')
        axes = [a for a in axes if a[0] == 0]
    for p in own:
        t.trace.used.add(t.source(p) or '')
    if not lists:
        for p in own:
            t.freeze(t.entries(p), 'a norm of an input that nothing prunes')
        t.put(out, axes)
        return
    line = t.elements.fuse(lists)
    for p in own:
        for ids in t.along(p, 0):
            t.elements.union(ids, line)
    if spec.kind == 'group':
        grid = line.reshape(spec.groups, -1)
        if grid.shape[1] < spec.groups:
            # Whole groups go, and with them their statistics.
            t.elements.union(grid, grid[:, :1])
            t.trace.group_norms[path] = (spec.groups, line)
        else:
            t.elements.union(grid, grid[:1])
            t.trace.norms[path] = (spec, line)
    else:
        t.trace.norms[path] = (spec, line)
    names = frozenset(n for n in (t.source(p) for p in own) if n)
    t.put(
        out, [*axes, (spec.dim, line)] if len(lists) > 1 else [*axes, (spec.dim, lists[0])], None, names or t.makers(x)
    )
