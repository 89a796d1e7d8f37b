"""Checkpoints that survive a kill, hold no pickled objects, and resume to the bit on CPU."""

from __future__ import annotations

import os
import random
import re
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import IterBasedTrainLoop

from ..registry import HOOKS


def latest_checkpoint(work_dir: str) -> str | None:
    """The newest ``epoch_*.pth`` or ``iter_*.pth`` of a run, or None.

    By name, not by MMEngine's ``last_checkpoint``: a run killed between two files leaves that one behind the truth.
    """
    found = []
    for path in Path(work_dir).glob('*.pth'):
        match = re.fullmatch(r'(?:epoch|iter)_(\d+)', path.stem)
        if match:
            found.append((path.stat().st_mtime, int(match[1]), str(path)))
    return max(found)[2] if found else None


class AtomicBackend(LocalBackend):
    """Local files appear whole or not at all: written under a temporary name, then renamed."""

    def put(self, obj: bytes | memoryview, filepath: Any) -> None:
        filepath = os.fspath(filepath)
        os.makedirs(os.path.dirname(filepath) or '.', exist_ok=True)
        temporary = f'{filepath}.{os.getpid()}.tmp'
        with open(temporary, 'wb') as file:
            file.write(obj)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, filepath)

    def put_text(self, obj: str, filepath: Any, encoding: str = 'utf-8') -> None:
        self.put(obj.encode(encoding), filepath)


register_backend('local', AtomicBackend, force=True, prefixes='')


def plain(value: Any) -> Any:
    """``value`` without objects that ``weights_only`` refuses: history buffers, NumPy scalars and arrays."""
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {'__history__': [torch.from_numpy(np.array(log)), torch.from_numpy(np.array(count))]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        kept = {k: plain(v) for k, v in value.items()}
        return type(value)(kept) if type(value).__name__ == 'OrderedDict' else kept
    if isinstance(value, (list, tuple)):
        return type(value)([plain(v) for v in value]) if type(value) in (list, tuple) else [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str, bytes, torch.Tensor)):
        return value
    return str(value)


def restored(value: Any) -> Any:
    """The inverse of :func:`plain` for history buffers."""
    if isinstance(value, dict):
        if '__history__' in value:
            log, count = value['__history__']
            buffer = HistoryBuffer()
            buffer._log_history, buffer._count_history = log.numpy(), count.numpy()
            return buffer
        for key in list(value):
            value[key] = restored(value[key])
    return value


class _SeededIterator:
    """Draws the batch of iteration i with random states that depend on i alone."""

    def __init__(self, iterator: Any, seed: int) -> None:
        self._iterator, self._seed, self._count = iterator, seed, 0

    def __iter__(self) -> _SeededIterator:
        return self

    def skip_iter(self, count: int) -> None:
        self._count += count
        self._iterator.skip_iter(count)

    def __next__(self) -> Any:
        reseed(self._seed, self._count)
        self._count += 1
        return next(self._iterator)


def reseed(seed: int, count: int) -> None:
    """Random states of Python, NumPy and torch as a function of a seed and a place in the run."""
    value = int(np.random.SeedSequence([seed, count]).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Checkpoints that load with ``weights_only=True``, and runs that resume to the same end.

    Random numbers are seeded anew at every epoch (in iteration-based loops at every batch), so that they don't depend
    on where a run was interrupted.
    """

    priority = 'LOWEST'

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        for key in ('meta', 'message_hub', 'param_schedulers', 'optimizer'):
            if key in checkpoint:
                checkpoint[key] = plain(checkpoint[key])

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        if 'message_hub' in checkpoint:
            checkpoint['message_hub'] = restored(checkpoint['message_hub'])

    def before_train_epoch(self, runner: Any) -> None:
        seed = (runner.seed or 0) + 1_000_003 * get_rank()
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = _SeededIterator(loop.dataloader_iterator, seed)
        else:
            reseed(seed, runner.epoch)


@HOOKS.register_module('CheckpointHook')
class KeepUntilSavedHook(CheckpointHook):
    """MMEngine's checkpoint hook, which removes an old checkpoint once the new one is written, not before.

    With ``max_keep_ckpts=1`` the original leaves a moment, as long as the writing takes, in which a kill loses the run.
    """

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        keep = self.max_keep_ckpts
        outdated = []
        if keep > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            ids = [*self.keep_ckpt_ids, step]
            outdated, self.keep_ckpt_ids = ids[:-keep], deque(ids[-keep:], keep)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self.max_keep_ckpts = -1
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self.max_keep_ckpts = keep
        if is_main_process():
            for old in outdated:
                path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old))
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)
