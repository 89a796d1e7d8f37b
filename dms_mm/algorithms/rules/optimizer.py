"""Any optimizer as the one of the structure."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.optim import OPTIMIZERS as MMENGINE_OPTIMIZERS
from torch import Tensor

from ...registry import OPTIMIZERS, check_options, options_of, plain, registered, unknown
from ...topk import TopkBank


class StructureOptimizer:
    """A torch optimizer for what a selector trains: at a constant rate, without weight decay.

    Its state is kept by :meth:`~dms_mm.topk.TopkBank.remember`, as tensors: in the checkpoint, resumed to the bit.

    Args:
        spec: a registered name, or ``dict(type=..., option=...)``.
        lr: the rate where ``spec`` has none.

    Raises:
        ValueError: an unknown optimizer or option, weight decay, or a rate given twice.
    """

    def __init__(self, bank: TopkBank, spec: str | Mapping[str, Any], lr: float | None = None) -> None:
        self.bank = bank
        options = dict(plain(spec)) if isinstance(spec, Mapping) else dict(type=spec)
        if 'type' not in options:
            raise ValueError(f'optimizer {options} has no `type`')
        kind = _find(options.pop('type'))
        own = options_of(kind, ('params',))
        check_options(f'optimizer {kind.__name__}', options, own)
        if lr is not None and 'lr' in options:
            raise ValueError('option `lr` is given twice, beside the optimizer and in it')
        options.setdefault('lr', 0.01 if lr is None else lr)
        if options.setdefault('weight_decay', 0) and 'weight_decay' in own:
            raise ValueError(f'weight_decay={options["weight_decay"]!r}: the structure takes no weight decay')
        self.kind, self.options = kind, {k: v for k, v in options.items() if k in own}
        self.bank.remember('optimizer_begun', torch.zeros((), dtype=torch.bool))
        # A step of a twin tells what the state is made of.
        twin = torch.zeros_like(bank.trained, requires_grad=False)
        self.names = []
        for name, value in self._step(twin, twin.clone(), {}).items():
            self.names.append(name)
            bank.remember(f'optimizer_{name}', torch.zeros_like(torch.as_tensor(value)))

    def _step(self, trained: Tensor, grad: Tensor, state: dict[str, Any]) -> dict[str, Any]:
        """One step of ``trained`` in place; the new state."""
        leaf = trained.detach().requires_grad_()
        leaf.grad = grad.detach().to(leaf.dtype)
        optimizer = self.kind([leaf], **self.options)
        if state:
            optimizer.state[leaf] = state
        optimizer.step()
        return {k: v for k, v in optimizer.state[leaf].items() if v is not None}

    @torch.no_grad()
    def step(self, grad: Tensor) -> None:
        """Move what is trained, but nothing of hardened units, against ``grad``, and back into its bounds."""
        bank, trained = self.bank, self.bank.trained
        still = bank.still()
        before = trained.clone()
        begun = bank.get_buffer('optimizer_begun')
        buffers = {name: bank.get_buffer(f'optimizer_{name}') for name in self.names}
        state = {}
        if bool(begun):
            # Numbers of steps are counted on the CPU by most optimizers.
            state = {k: v.cpu().clone() if v.ndim == 0 else v.clone() for k, v in buffers.items()}
        after = self._step(trained, torch.where(still, torch.zeros_like(grad), grad), state)
        for name, buffer in buffers.items():
            buffer.copy_(torch.as_tensor(after[name]))
        begun.fill_(True)
        trained.copy_(torch.where(still, before, trained))
        bank.clamp()


def _find(name: Any) -> type[torch.optim.Optimizer]:
    """An optimizer's class: one of ours, of MMEngine's (all of torch's), or what is given."""
    if inspect.isclass(name):
        return name
    short = str(name).removeprefix('dms_mm.')
    if registered(OPTIMIZERS, short):
        found: type[torch.optim.Optimizer] = OPTIMIZERS.module_dict[short]
        return found
    known = MMENGINE_OPTIMIZERS.module_dict
    if short not in known:
        raise unknown('optimizer', name, [*OPTIMIZERS.module_dict, *known])
    return known[short]
