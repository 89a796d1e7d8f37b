"""Where a masked and a slim model first part, for messages."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..tracing import IntArray, plain_outputs
from .compare import living
from .plan import Plan
from .twins import Twins


def first_parting(twins: Twins, keep: IntArray, training: bool) -> str:
    """`` (first in module 'norm', LayerNorm: aten::mul, ...)``, or nothing where it can't be told."""
    try:
        masked = _outputs_of_modules(twins, twins.masked(keep), training)
        slim = _outputs_of_modules(twins, twins.slim(keep), training)
    except Exception:
        return ''
    for path, have in slim.items():
        want = masked.get(path)
        if want is not None and not _same(twins.plan, path, want, have, keep, twins.bound):
            names = [c.name for c in twins.plan.trace.calls[0] if c.module == path]
            kind = type(twins.model.get_submodule(path)).__name__
            operators = ', '.join(dict.fromkeys(names))
            return f' (first in module {path!r}, {kind}{": " if operators else ""}{operators})'
    return ''


def _outputs_of_modules(twins: Twins, model: nn.Module, training: bool) -> dict[str, Tensor]:
    """Path -> first tensor that its first call returned, in the order in which these ended."""
    found: dict[str, Tensor] = {}

    def hook_of(path: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, args: object, out: object) -> None:
            leaves = [x for x in tree_flatten(plain_outputs(out))[0] if isinstance(x, Tensor)]
            if leaves and path not in found:
                found[path] = leaves[0].detach().double()

        return hook

    for path, module in model.named_modules():
        module.register_forward_hook(hook_of(path))
    twins.run(model, training)
    return found


def _same(plan: Plan, path: str, want: Tensor, have: Tensor, keep: IntArray, bound: float) -> bool:
    """Whether what lives of a masked output is the slim one; True where it can't be said which positions live."""
    signature = plan.trace.io.get(path, (None, None))[1]
    if signature is not None and tuple(want.shape) == signature[0]:
        for d, size in enumerate(signature[0]):
            alive = living(plan, signature[1], d, size, keep)
            want = want.index_select(d, torch.from_numpy(np.flatnonzero(alive)).to(want.device))
    if want.shape != have.shape:
        return True
    return bool((want - have).abs().max() <= bound * want.abs().max().clamp_min(1e-300)) if want.numel() else True
