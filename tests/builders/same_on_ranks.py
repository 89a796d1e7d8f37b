"""A hook for searches in several processes: masks, ratios and statistics of norms must be equal on all ranks."""

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from dms_mm.engine.cpu_parallel import CPUSyncBatchNorm


def gathered(value):
    values = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(values, value.contiguous())
    return values


@HOOKS.register_module()
class SameOnRanks(Hook):
    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert dist.get_world_size() > 1
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        bank = model.space.bank
        means = [m.running_mean for m in model.modules() if isinstance(m, CPUSyncBatchNorm)]
        assert means, 'no synchronised norm'
        for value in (bank.mask.detach(), bank.ratio.detach(), torch.cat(means)):
            assert all(torch.equal(value, other) for other in gathered(value))
        runner.logger.info(f'{len(means)} norms, {bank.mask.numel()} masks equal on {dist.get_world_size()} ranks')
