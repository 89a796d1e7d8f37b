"""After a search: structures between uniform scaling and the found one, each trained for a while by the same config."""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.optim import build_optim_wrapper
from mmengine.optim.scheduler import CosineAnnealingLR, LinearLR
from torch import Tensor, nn

from ..algorithms.candidates import SHARES, Compared, candidates_of, compare
from ..algorithms.cost import count_samples, is_first
from ..algorithms.strategies.structures import slim_of, structure_of
from ..algorithms.strategies.task import mode_of
from ..models.slim import SlimModel, check_initialisation
from ..progress import PATIENCE, Progress
from ..registry import check_options, options_of, unknown
from ..space import SearchSpace
from .held_out import split
from .judging import METRICS, accuracy_of, loss_of


class Candidates:
    """Compares a few structures by a short common training, and takes the best.

    Each is built slim and trained from weights of the same seed (from the search's own, where it began with pretrained
    ones) on the same batches in the same order, by the config's optimizer; its rate rises for a tenth of the
    iterations and falls to zero by a cosine; a teacher takes no part. Held-out training images tell which is best. The
    search has seen them; no candidate's weights have, but where they are the search's own.

    Args:
        iters: iterations of each training.
        shares: of the way from uniform scaling of widths and depths (0) to the found structure (1).
        batches: held-out ones, of training size.
        metric: ``'loss'``, or ``'accuracy'`` of classifiers.
        held_out_pipeline: transforms of the held-out images; those of the training ones by default.
        optim_wrapper: in the place of the search's own; needed where that trains no weights (``'p-'``).
        seed: of weights, batches, and what is held out.
    """

    def __init__(
        self,
        iters: int,
        shares: Sequence[float] = SHARES,
        batches: int = 8,
        metric: str = 'loss',
        held_out_pipeline: Sequence[Any] | None = None,
        optim_wrapper: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (('iters', iters), ('batches', batches)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f'{name}={value!r} of candidates must be a whole number of at least 1')
        if len(shares) < 2 or not all(isinstance(s, (int, float)) and 0 <= s <= 1 for s in shares):
            raise ValueError(f'shares={shares!r} of candidates must be two or more numbers from 0 to 1')
        if metric not in METRICS:
            raise unknown('metric', metric, METRICS)
        self.iters, self.shares, self.batches = iters, tuple(shares), batches
        self.metric, self.pipeline, self.optim_wrapper, self.seed = metric, held_out_pipeline, optim_wrapper, seed

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> Candidates | None:
        """From ``dict(iters=...)`` of a config.

        Raises:
            ValueError: an unknown or wrong option, or no ``iters``.
        """
        if options is None:
            return None
        if not isinstance(options, Mapping) or 'iters' not in options:
            raise ValueError(f'candidates must be dict(iters=NUMBER, ...), not {options!r}')
        check_options('`candidates`', options, options_of(cls))
        return cls(**options)

    def prepare(self, runner: Any, model: Any) -> None:
        """Before the search: what is wrong with data or architecture must not show at its end."""
        if model.pipeline == 'np':
            check_initialisation(model.architecture)
        elif model.pipeline == 'p-' and self.optim_wrapper is None:
            raise ValueError('candidates of p- need an optim_wrapper: that of the search trains no weights')
        build_optim_wrapper(nn.Linear(1, 1), self.optim_wrapper or runner.cfg.optim_wrapper)
        given = runner.cfg.train_dataloader
        self.data, self.held_out = split(runner, given, self.batches, self.seed, self.pipeline)

    def choose(self, runner: Any, model: Any) -> tuple[Tensor | None, dict[str, Any], Compared]:
        """(N,) bool the best structure of a search at its end, None if no training came to a score; what is to be told
        of it; and the comparison."""
        structures = candidates_of(model.search, self.shares)
        with seeds(self.seed):
            held_out = list(self.held_out)  # once: what transforms draw is the same for each candidate
        bar = Progress(
            f'{len(structures)} candidates', self.iters * len(structures), PATIENCE if is_first() else math.inf
        )
        with bar:
            done = compare(
                model.space,
                structures,
                lambda slim: self._train(runner, slim, bar),
                lambda slim: self._score(slim, held_out),
                lambda space, keep: self._build(runner, model, space, keep),
                runner.logger.info,
            )
        chosen = None if done.best is None else self.shares[done.best]
        told = dict(shares=list(self.shares), scores=done.scores, chosen=chosen, **done.cost.as_dict())
        listed = ', '.join(f'{share:g}: {score:.6g}' for share, score in zip(self.shares, done.scores))
        runner.logger.info(
            f'candidates by their share of the way from uniform scaling, {self.metric}: {listed}. They cost {done.cost}'
        )
        if done.best is None:
            runner.logger.warning('no candidate has a finite score: the found structure is taken')
            return None, told, done
        runner.logger.info(f'taken is {chosen:g}')
        return structures[done.best], told, done

    def _build(self, runner: Any, model: Any, space: SearchSpace, keep: Tensor) -> nn.Module:
        cfg = runner.cfg
        architecture = cfg.model.architecture
        preprocessor = cfg.model.get('data_preprocessor', cfg.get('data_preprocessor'))
        with seeds(self.seed):
            if model.pipeline == 'np':
                slim: Any = SlimModel(architecture, structure_of(space, keep), data_preprocessor=preprocessor)
                slim.init_weights()
            else:
                slim = slim_of(space, keep)
                if model.pipeline == 'p-':
                    slim.requires_grad_(True)  # as a finetuning of it has it
        return slim.to(keep.device)

    def _train(self, runner: Any, slim: Any, bar: Progress) -> int:
        samples = 0
        with seeds(self.seed + get_rank()):
            with quiet(runner.logger):  # a line on every parameter
                wrapped = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), slim)
                optimizer = build_optim_wrapper(wrapped, self.optim_wrapper or runner.cfg.optim_wrapper)
            optimizer.initialize_count_status(wrapped, 0, self.iters)
            rates = self._rates(optimizer)
            wrapped.train()
            for batch in itertools.islice(self._batches(runner), self.iters):
                losses = wrapped.train_step(batch, optim_wrapper=optimizer)
                samples += count_samples(batch)
                for rate in rates:
                    rate.step()
                bar.step(loss=float(losses['loss']))
        return samples

    def _rates(self, optimizer: Any) -> list[Any]:
        warmup = self.iters // 10 if self.iters >= 20 else 0  # over one iteration it would never end
        rates: list[Any] = [LinearLR(optimizer, start_factor=0.1, end=warmup, by_epoch=False)] if warmup else []
        return [*rates, CosineAnnealingLR(optimizer, begin=warmup, T_max=self.iters - warmup, by_epoch=False)]

    def _batches(self, runner: Any) -> Iterator[Any]:
        """Training batches without end, from the first one on."""
        loader = runner.build_dataloader(self.data, seed=self.seed)
        for epoch in itertools.count():
            for sampler in (loader.sampler, getattr(loader.batch_sampler, 'sampler', None)):
                if hasattr(sampler, 'set_epoch'):
                    sampler.set_epoch(epoch)
            yield from loader

    @torch.no_grad()
    def _score(self, slim: Any, held_out: Sequence[Any]) -> tuple[float, int]:
        total, count = 0.0, 0
        with seeds(self.seed), mode_of(slim, False):
            for batch in held_out:
                samples = count_samples(batch)
                data = slim.data_preprocessor(batch, self.metric == 'loss')
                value = accuracy_of(slim, data) if self.metric == 'accuracy' else -float(loss_of(slim, data))
                total, count = total + samples * value, count + samples
        return total / count, count


@contextmanager
def quiet(logger: logging.Logger) -> Iterator[None]:
    """Inside, only warnings are logged."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def seeds(seed: int) -> Iterator[None]:
    """All random numbers by ``seed`` inside, and as they were after."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
