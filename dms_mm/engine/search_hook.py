"""The hook that steps the structure while a runner trains, and writes what the search found."""

from __future__ import annotations

import os
import os.path as osp
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from ..registry import HOOKS
from ..visualization import plot_widths, unit_table


@HOOKS.register_module()
class DMSHook(Hook):
    """Steps a :class:`DMS` model's search after every optimizer step.

    Logs the present count and the scheduled target of every resource, and after training writes to the work
    directory: ``structure.json``, ``slim.pth`` (the kept weights, a plain state_dict), ``units.md`` (each unit before
    and after) and ``widths.png``.

    Args:
        interval: iterations between two log entries of the structure.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval

    def _model(self, runner: Any) -> Any:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, 'start_search'):
            raise TypeError(f'DMSHook needs a DMS model, got {type(model).__name__}')
        return model

    def before_train(self, runner: Any) -> None:
        model = self._model(runner)
        every = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        search = model.start_search(max(1, runner.max_iters // every))
        runner.logger.info('search space:\n' + model.space.report())
        goals = ', '.join(f'{k} {v:,.8g} of {model.space.supernet[k]:,}' for k, v in search.targets.items())
        runner.logger.info(f'target: {goals}; {search.total_steps} steps, rule {type(search.rule).__name__}')

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        self._scale = scaler.get_scale() if scaler is not None and scaler.is_enabled() else 1.0

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if not runner.optim_wrapper.should_update():
            return
        model = self._model(runner)
        model.search.step(grad_scale=self._scale)
        if self.every_n_train_iters(runner, self.interval):
            for name, count in model.space.resources().items():
                if name in model.search.targets:
                    full = model.space.supernet[name]
                    runner.message_hub.update_scalar(f'train/{name}', count / full)
                    runner.message_hub.update_scalar(f'train/{name}_target', model.search.goal(name) / full)

    def after_train(self, runner: Any) -> None:
        model = self._model(runner)
        structure = model.search.finalize()
        if not is_main_process():
            return
        space, folder = model.space, runner.work_dir
        structure.save(osp.join(folder, 'structure.json'))
        slim = space.slim()
        temporary = osp.join(folder, '.slim.pth.tmp')
        torch.save({k: v.cpu() for k, v in slim.state_dict().items()}, temporary)
        os.replace(temporary, osp.join(folder, 'slim.pth'))
        with open(osp.join(folder, 'units.md'), 'w') as file:
            file.write(unit_table(structure))
        plot_widths(structure, osp.join(folder, 'widths.png'))
        runner.logger.info('found structure:\n' + space.report())
        found = ', '.join(f'{k} {v:,} of {structure.supernet[k]:,}' for k, v in structure.resources.items())
        runner.logger.info(f'{found}; written to {folder}: structure.json, slim.pth, units.md, widths.png')
