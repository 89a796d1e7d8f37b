"""The loop of searches that step no ratios: train the supernet, or take it as it is, then let a strategy choose."""

from __future__ import annotations

import math
import os
import os.path as osp
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from ..algorithms.budget import Ending, preview
from ..algorithms.cost import BACKWARD, Cost, from_first, world_size
from ..algorithms.passing import budgets_of
from ..algorithms.strategies import Budget, Strategy, Task, random_keep
from ..models.detection import tensor_forward
from ..registry import LOOPS, STRATEGIES, build, check_options, options_of, plain, unknown
from .held_out import split
from .judging import METRICS, accuracy_of, loss_of
from .results import Meter, save_whole, write_results


@LOOPS.register_module()
class StructureLoop(IterBasedTrainLoop):
    """Searches a :class:`DMS` model's space by a strategy; ends with the same files as a search by gradients.

    First the supernet is trained, for ``max_iters`` iterations, as any model is. As many training images as the
    strategy compares structures by are held out from the start. An interrupted strategy goes on with ``--resume``.

    Args:
        strategy: a registered one, for example ``dict(type='Evolution', judge='ZiCo')``.
        max_iters: iterations of training; 0 for strategies that need no trained weights, or a pretrained supernet.
        sampled: part of these iterations that train a random structure within the target, not the whole supernet, as
            one-shot searches do (Guo et al., ECCV 2020, section 3.3). Of a width its first elements are trained, so
            that the strategy's ``order`` has to be ``'index'``.
        metric: by which held-out images judge: ``'loss'``, or ``'accuracy'`` of classifiers.
        held_out_pipeline: transforms of the held-out images; those of the training ones by default.
        equal_iters: no further structure is tried once all together, training included, has processed as many MACs as
            so many iterations of a search by gradients.
        seed: of what is held out and of what the strategy draws.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        strategy: str | Mapping[str, Any] | None = None,
        max_iters: int = 0,
        sampled: float = 0.0,
        metric: str = 'loss',
        held_out_pipeline: Sequence[Any] | None = None,
        equal_iters: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.check(dict(strategy=strategy, sampled=sampled, metric=metric, **options))
        self.strategy: Strategy = build(STRATEGIES, strategy, what='strategy')
        self.model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(self.model, 'start_search'):
            raise ValueError(f'StructureLoop needs a DMS model, got {type(self.model).__name__}')
        if len(budgets_of(self.model.target)) > 1:
            raise ValueError(
                f'a strategy takes one budget, not target={self.model.target}; searches by gradients pass several'
            )
        self.sampled, self.metric, self.equal_iters, self.search_seed = sampled, metric, equal_iters, seed
        self.settings = repr((plain(strategy), sorted(plain(self.model.target).items()), seed, metric))
        self.held_out: Any = ()
        batches = self.strategy.needs()[1]
        if batches:
            dataloader, self.held_out = split(runner, dataloader, batches, seed, held_out_pipeline)
        super().__init__(runner, dataloader, max_iters, **options)

    @staticmethod
    def check(options: Mapping[str, Any]) -> None:
        """Raise ValueError for what is wrong in a ``train_cfg``, before anything is built."""
        given = {k: v for k, v in options.items() if k != 'type'}
        known = {*options_of(StructureLoop, ('runner', 'dataloader')), *options_of(IterBasedTrainLoop, ('runner',))}
        check_options('StructureLoop', given, sorted(known - {'dataloader'}))
        if given.get('strategy') is None:
            raise ValueError("StructureLoop needs strategy=dict(type='Evolution'), or another registered one")
        strategy = build(STRATEGIES, given['strategy'], what='strategy')
        if given.get('metric', 'loss') not in METRICS:
            raise unknown('metric', given['metric'], METRICS)
        if not 0 <= given.get('sampled', 0.0) <= 1:
            raise ValueError(f'sampled={given["sampled"]!r} of StructureLoop must be a number from 0 to 1')
        if given.get('sampled') and getattr(strategy, 'order', 'index') != 'index':
            raise ValueError("`sampled` trains the first elements of every width: give the strategy order='index'")

    # -- training
    def run(self) -> nn.Module:
        bank, self.meter = self.model.space.bank, Meter(self.runner, self.model.space)
        space = self.model.space
        self.runner.logger.info('search space:\n' + space.report())
        told = preview(space, self.model.target)  # fails for targets that no structure meets together
        self.runner.logger.info(f'before the search:\n{told}')
        self._iter = min(self._iter, self._max_iters)  # a checkpoint from after the training counts one more
        super().run()
        bank.hardened.fill_(False)
        bank.refresh()
        self._keep_for_resume()
        self._search()
        self.meter.cost.stop()
        structure = space.structure()
        ending = Ending.of(told.targets, structure.resources)
        write_results(self.runner, space, structure, self.meter.cost, ending=ending)
        return self.runner.model

    def run_iter(self, data_batch: Any) -> None:
        """An iteration of training: of the whole supernet or, as often as asked for, of a random structure."""
        bank = self.model.space.bank
        generator = torch.Generator().manual_seed(1_000_003 * self.search_seed + self._iter)
        if float(torch.rand((), generator=generator)) < self.sampled:
            bank.harden_all(random_keep(self.model.space, self.model.target, generator))
        super().run_iter(data_batch)
        self.meter.step(data_batch)
        bank.hardened.fill_(False)
        bank.refresh()

    # -- search
    def _search(self) -> None:
        model, runner = self.model, self.runner
        # Once for all structures: what a preprocessor draws (mixup, sizes) is the same for each.
        prepare = model.data_preprocessor
        batches = [prepare(next(self.dataloader_iterator), True) for _ in range(self.strategy.needs()[0])]
        task = Task(
            batches=batches,
            held_out=[prepare(batch, self.metric == 'loss') for batch in self.held_out],
            loss=loss_of,
            shape=model.example.shape[1:],
            forward=tensor_forward,
            value=accuracy_of if self.metric == 'accuracy' else None,
        )
        state = self._found()
        if state is not None:
            self.meter.cost = Cost.restore(state['cost'])
            self.meter.cost.start()
        budget = Budget(self.meter.cost, self._limit(), self.search_seed, state, self._save, runner.logger.info)
        name = type(self.strategy).__name__
        runner.logger.info(f'{name} begins after {budget.cost}')
        keep = self.strategy.search(model.space, model.target, task, budget)
        model.space.bank.harden_all(from_first(keep))

    def _limit(self) -> float:
        if self.equal_iters is None:
            return math.inf
        batch = getattr(self.dataloader, 'batch_size', None) or self.dataloader.batch_sampler.batch_size
        samples = self.equal_iters * batch * world_size()
        return samples * float(self.model.space.supernet['macs']) * (1 + BACKWARD)

    # -- resume
    @property
    def _path(self) -> str:
        return osp.join(self.runner.work_dir, 'strategy.pth')

    def _keep_for_resume(self) -> None:
        """A checkpoint from which ``--resume`` comes back to the strategy, without training again."""
        name = f'iter_{self._iter}.pth'
        if self._max_iters == 0 or not osp.exists(osp.join(self.runner.work_dir, name)):
            self.runner.save_checkpoint(self.runner.work_dir, name, by_epoch=False)

    def _save(self, state: Mapping[str, Any]) -> None:
        if is_main_process():
            save_whole({**state, 'settings': self.settings}, self._path)

    def _found(self) -> dict[str, Any] | None:
        if not osp.exists(self._path):
            return None
        if not self.runner.cfg.get('resume'):
            if is_main_process():
                os.remove(self._path)
            return None
        state = torch.load(self._path, weights_only=True)
        if state['settings'] != self.settings:
            self.runner.logger.warning(f'{self._path} is of another search; the strategy begins anew')
            return None
        return state
