"""Normalisations as operators; those that are modules of their own are wholes."""

from __future__ import annotations

from typing import Any

import torch

from ..ledger import Ledger, tensors_of
from .layout import channel_axes
from .table import rule


@rule('native_layer_norm', 'native_group_norm', '_fused_rms_norm', 'rms_norm', 'layer_norm', 'group_norm')
def free_norm(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    tensors = tensors_of((x, args, kwargs))
    name = 'a normalisation that is no module of its own'
    for y in tensors:
        ledger.freeze([e for e in ledger.entries(y) if e[0] != (0,) or y is not x], name)


@rule(
    'native_batch_norm',
    '_native_batch_norm_legit',
    '_native_batch_norm_legit_no_training',
    '_native_batch_norm_legit_functional',
    'cudnn_batch_norm',
    'miopen_batch_norm',
    'batch_norm',
    '_batch_norm_with_update',
    '_batch_norm_no_update',
)
def batch_norm(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    vectors = [a for a in args[:4] if isinstance(a, torch.Tensor)]
    axes = channel_axes(ledger, x, vectors)
    results = tensors_of(out)
    names = frozenset(s for v in vectors[:2] if (s := ledger.source(v)))
    ledger.put(results[0], axes, None, names if len(names) == 2 else None)
    for saved in results[1:]:
        if saved.ndim == 1 and saved.shape[0] == x.shape[1]:
            ledger.put(saved, [(0, ids) for _, ids in axes])
