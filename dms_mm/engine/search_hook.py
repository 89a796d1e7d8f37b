"""The hook that steps the structure while a runner trains, and writes what the search found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop

from ..algorithms.budget import preview
from ..registry import HOOKS
from .candidates import Candidates
from .results import Meter, write_missing, write_passed, write_results
from .structure_loop import StructureLoop

NOISE = 0.75  # confidence of an average of two standard errors


@HOOKS.register_module()
class DMSHook(Hook):
    """Steps a :class:`DMS` model's search after every optimizer step.

    Logs the present count and the scheduled target of every resource and the mean confidence of all units, and after
    training writes to the work directory what :func:`write_results` says. Where the target has several budgets, their
    structures and slim weights are written as they are passed (:func:`write_passed`).

    Args:
        interval: iterations between two log entries of the structure.
        by_epoch: the search's schedule goes by the epochs of the loop: a new target at the begin of each.
        candidates: ``dict(iters=...)`` compares structures between uniform scaling and the found one by a short common
            training, and takes the best: options of :class:`~.candidates.Candidates`.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, interval: int = 10, by_epoch: bool = False, candidates: Mapping[str, Any] | None = None) -> None:
        self.interval, self.by_epoch = interval, by_epoch
        self.candidates = Candidates.of(candidates)

    def _model(self, runner: Any) -> Any:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, 'start_search'):
            raise TypeError(f'DMSHook needs a DMS model, got {type(model).__name__}')
        return model

    @staticmethod
    def _stands_aside(runner: Any) -> bool:
        """Whether the loop itself searches, by a strategy that steps no ratios."""
        return isinstance(runner.train_loop, StructureLoop)

    def before_train(self, runner: Any) -> None:
        if self._stands_aside(runner):
            if self.candidates is not None:
                raise ValueError('candidates of DMSHook are of a search by gradients, not of a strategy')
            return
        model = self._model(runner)
        if self.candidates is not None:
            self.candidates.prepare(runner, model)
        every = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                'by_epoch=True of DMSHook needs a loop of epochs; set search=dict(epochs=...) with this one'
            )
        epochs = runner.max_epochs if self.by_epoch else None
        search = model.start_search(max(1, runner.max_iters // every), epochs)
        runner.logger.info('search space:\n' + model.space.report())
        # Fails for targets that no structure meets together.
        runner.logger.info(f'before the search:\n{preview(model.space, search.targets)}')
        runner.logger.info(f'{search.total_steps} steps, rule {type(search.rule).__name__}')
        if getattr(search, 'names', [])[1:]:
            runner.logger.info(f'budgets on the way: {", ".join(search.names)}; each is written when it is passed')
            search.on_budget = lambda number, found: write_passed(runner, model.space, search.names[number], found)
        self.meter = Meter(runner, model.space)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        self._scale = scaler.get_scale() if scaler is not None and scaler.is_enabled() else 1.0

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._stands_aside(runner):
            return
        self.meter.step(data_batch)
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
            if known := model.search.confidence():
                runner.message_hub.update_scalar('train/confidence', sum(known.values()) / len(known))

    def after_train(self, runner: Any) -> None:
        if self._stands_aside(runner):
            return
        model = self._model(runner)
        reached = ', '.join(f'{name} {share:.4g} times' for name, share in model.search.reached().items())
        runner.logger.info(f'before it is made to fit, the structure has {reached} its target')
        if known := list(model.search.confidence().values()):
            noise = sum(value < NOISE for value in known)
            runner.logger.info(
                f'confidence of the search: {sum(known) / len(known):.2f} in the mean of {len(known)} units, of which '
                f'{noise} are under {NOISE}: what was seen of them is within two standard errors'
            )
        keep, told, failed = None, {}, None
        if self.candidates is not None:
            try:
                keep, told['candidates'], compared = self.candidates.choose(runner, model)
                self.meter.cost.macs += compared.cost.macs
                self.meter.cost.samples += compared.cost.samples
            except Exception as error:  # what the search found is written first
                failed = error
        structure = model.search.finalize(keep)
        self.meter.cost.stop()
        write_missing(runner, model.search.passed)
        write_results(runner, model.space, structure, self.meter.cost, told, model.search.ending)
        if failed is not None:
            raise RuntimeError(f'the found structure is in {runner.work_dir}; its comparison failed') from failed
