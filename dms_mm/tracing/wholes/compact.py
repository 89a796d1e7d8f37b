"""Modules that mix channels but have no size of their own: ECA's convolution along them, CBAM's mean and maximum.

No masking of weights makes these equal to their slim selves, which see the channels that live and nothing between them.
But they run on any number of channels: so the masked model runs them on those that live. Recognised by trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...registry import WHOLES
from ..findings import Cost, Entries, Trace
from ..ledger import Ledger
from .probe import random_copy, without_modes


@WHOLES.register_module(name='compact')
@dataclass(frozen=True)
class CompactSpec:
    """A module that maps (..., C at ``dim``, ...) to the same shape for any C; MACs are ``fixed + each * C``."""

    dim: int
    fixed: float
    each: float

    @classmethod
    def recognise(cls, module: nn.Module, x: Any, entries: Entries, rest: Any) -> CompactSpec | None:
        """None: only a first forward tells where channels are mixed."""
        return None

    @classmethod
    def find(cls, model: nn.Module, trace: Trace) -> dict[str, CompactSpec]:
        """Compact modules by path, after a forward."""
        return find_compact(model, trace)

    def trace(self, ledger: Ledger, path: str, module: nn.Module, x: Any, out: Any) -> None:
        trace_compact(ledger, path, module, self, x, out)


def find_compact(model: nn.Module, trace: Trace) -> dict[str, CompactSpec]:
    """The smallest modules around places where channels were mixed that run on any number of them."""
    found: dict[str, CompactSpec] = {}
    modules = dict(model.named_modules())
    known: dict[Any, CompactSpec | None] = {}
    for path in trace.stuck:
        while path and path not in found:
            before, after = trace.io.get(path, (None, None))
            if before is not None and after is not None and before[0] == after[0] and len(before[1]) == 1:
                dims = before[1][0][0]
                key = type(modules[path]), repr(modules[path]), before[0], dims
                if key not in known:
                    known[key] = _probe(modules[path], before[0], dims)
                spec = known[key]
                if spec is not None:
                    found[path] = spec
                    break
            path = path.rpartition('.')[0]
    return found


@without_modes
def _probe(module: nn.Module, shape: tuple[int, ...], dims: tuple[int, ...]) -> CompactSpec | None:
    dim = dims[0]
    if len(dims) > 1 or dim == 0 or any(shape[dim] in p.shape for p in module.parameters()):
        return None
    trial, generator = random_copy(module)
    size = shape[dim]
    macs = []
    for count in (size, size - 1, max(1, size // 2)):
        sizes = [8 if d == 0 else count if d == dim else s for d, s in enumerate(shape)]
        data = torch.randn(sizes, generator=generator, dtype=torch.float64)
        try:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                out = trial(data)
        except Exception:
            return None
        if not isinstance(out, torch.Tensor) or out.shape != data.shape:
            return None
        macs.append(counter.get_total_flops() / 2 / len(data))
        # Each channel must come out where it went in: there it resembles itself most.
        before = F.normalize(data.movedim(dim, 0).flatten(1))
        for place in {0, count // 2, count - 1}:
            if int((before @ out.select(dim, place).flatten()).abs().argmax()) != place:
                return None
    each = macs[0] - macs[1]
    fixed = macs[0] - each * size
    if abs(fixed + each * max(1, size // 2) - macs[2]) > 1e-6 * max(1.0, macs[0]):
        return None
    return CompactSpec(dim, fixed * shape[0], each * shape[0])


def trace_compact(ledger: Ledger, path: str, module: nn.Module, spec: CompactSpec, x: Any, out: Any) -> None:
    """Channels pass; what the module holds stays as it is."""
    own = [*module.parameters(), *module.buffers()]
    ledger.use(own)
    for p in own:
        if ledger.source(p):
            ledger.freeze(ledger.entries(p), 'a module that runs on the channels that live')
    entries = ledger.entries(x)
    ledger.put(out, entries)
    line = ledger.along(x, spec.dim)
    ledger.trace.compact[path] = (spec, line[0])
    if ledger.record_costs:
        ledger.trace.costs.append(Cost(spec.fixed, [], path))
        ledger.trace.costs.append(Cost(spec.each, [(int(x.shape[spec.dim]), line)], path))
