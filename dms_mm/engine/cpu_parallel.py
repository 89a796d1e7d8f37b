"""Distributed training on CPU (gloo), SyncBatchNorm included: a config for many GPUs can be tried without one."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from ..registry import MODEL_WRAPPERS


class CPUSyncBatchNorm(_BatchNorm):
    """What ``nn.SyncBatchNorm`` computes, for (N, C, ...) on CPU, where torch refuses it.

    In training the statistics are those of all ranks' elements, in float64; gradients go through them to all ranks.
    """

    process_group: dist.ProcessGroup | None

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f'expected at least 2 dimensions, got {input.ndim}')

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        group = self.process_group or dist.group.WORLD
        x = input.double()
        axes = [d for d in range(x.ndim) if d != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = all_reduce(x.new_tensor(x.numel() / x.shape[1]), group=group)
        mean = all_reduce(x.sum(axes), group=group) / count
        centred = x - mean.view(shape)
        variance = all_reduce(centred.square().sum(axes), group=group) / count
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            factor = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.detach().to(self.running_mean), factor)
            self.running_var.lerp_((variance * count / (count - 1)).detach().to(self.running_var), factor)
        y = (centred * (variance.view(shape) + self.eps).rsqrt()).to(input.dtype)
        if self.weight is not None:
            y = y * self.weight.view(shape)
        return y if self.bias is None else y + self.bias.view(shape)


def sync_on_cpu(model: nn.Module) -> None:
    """Let every ``nn.SyncBatchNorm`` of a model train on CPU; names, weights and buffers stay."""
    for module in model.modules():
        if type(module) is nn.SyncBatchNorm:
            # DistributedDataParallel turns away any SyncBatchNorm on CPU, so the class is no child of it.
            module.__class__ = CPUSyncBatchNorm


@MODEL_WRAPPERS.register_module()
class CPUDistributedDataParallel(MMDistributedDataParallel):
    """MMEngine's data parallel wrapper for models on CPU."""

    def __init__(self, module: nn.Module, device_ids: object = None, **kwargs: Any) -> None:
        # The runner gives the rank's GPU as a device; there is none.
        sync_on_cpu(module)
        super().__init__(module, device_ids=None, **kwargs)
