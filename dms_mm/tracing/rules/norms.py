"""Normalisations as operators; those that are modules of their own are wholes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..ledger import Ledger, tensors_of
from .along import act_along
from .layout import Operand, join, touching
from .table import rule
from .zeros import zero_makers

ALONE = 'a normalisation that is no module of its own'


def _whole(ledger: Ledger, x: Any) -> str | None:
    """The parameter that a tensor is, as it is."""
    name = ledger.source(x)
    own = ledger.trace.params.get(name or '', [])
    lines = [ledger.along(x, d) for d in range(x.ndim)]
    same = len(own) == x.ndim and all(len(ids) < 2 or [ids.tolist()] == [i.tolist() for i in mine]
                                      for ids, mine in zip(own, lines))  # fmt: skip
    return name if same else None


@rule('_weight_norm_interface')
def weight_norm(ledger: Ledger, out: Any, v: Any, g: Any, dim: int = 0) -> None:
    """``v * g / norm(v)``, the norm over all dimensions but ``dim``: over what lives, as masks come before it.

    A mask along ``dim`` would leave it nothing to divide by, and goes to the gain.
    """
    direction, gain = _whole(ledger, v), _whole(ledger, g)
    if direction is None or gain is None:
        for x in (v, g):
            ledger.freeze(ledger.entries(x), 'weight_norm of what is no parameter')
        return
    kept, own = ledger.along(v, dim), ledger.along(g, dim)
    for a, b in zip(kept, own):
        ledger.elements.union(a, b)
        ledger.trace.biases.append((a, b))
    ledger.trace.normed[direction] = gain, dim
    for d in range(v.ndim):
        if d != dim:
            ledger.consume(v, ledger.along(v, d))
    ledger.put(out[0], ledger.entries(v), direction, frozenset([gain]))
    ledger.put(out[1], [(dim, ids) for ids in kept])


@rule('native_layer_norm', '_fused_rms_norm')
def layer_norm(ledger: Ledger, out: Any, x: Any, shape: Sequence[int], *parameters: Any) -> None:
    """What is normalised stays, and its gain and bias with it; the rest passes."""
    for p in tensors_of(parameters):
        ledger.freeze(ledger.entries(p), ALONE)
    act_along(ledger, out, x, set(range(x.ndim - len(shape), x.ndim)), ALONE)


@rule('native_group_norm')
def group_norm(ledger: Ledger, out: Any, x: Any, *parameters: Any) -> None:
    """The batch passes."""
    for p in tensors_of(parameters):
        ledger.freeze(ledger.entries(p), ALONE)
    act_along(ledger, out[0], x, set(range(1, x.ndim)), ALONE)
    for statistic in out[1:]:
        ledger.put(statistic, touching(ledger, x, {0}))


@rule(
    'native_batch_norm',
    '_native_batch_norm_legit',
    '_native_batch_norm_legit_no_training',
    '_native_batch_norm_legit_functional',
    '_batch_norm_with_update',
    '_batch_norm_with_update_functional',
    '_batch_norm_no_update',
)
def batch_norm(ledger: Ledger, out: Any, x: Any, *args: Any, **kwargs: Any) -> None:
    """Channels are tied to gain, bias and statistics; with running statistics it is elementwise."""
    vectors = [a for a in args[:4] if isinstance(a, torch.Tensor)]
    results = tensors_of(out)
    # In training mode it saves statistics of the batch.
    statistics = results[1].numel() > 0
    operands: list[Operand] = [(x, [d if d == 1 or not statistics else None for d in range(x.ndim)])]
    operands += [(v, [1]) for v in vectors if v.ndim == 1]
    acted = 'a normalisation over pruned positions'
    entries, _ = join(ledger, operands, 'a normalisation with a fixed vector', acted)
    both = [frozenset({1, 2})] if isinstance(args[0], torch.Tensor) and isinstance(args[1], torch.Tensor) else []
    ledger.put(results[0], entries, None, zero_makers(ledger, operands, entries, both))
    channels = [ids for dims, ids in entries if dims == (1,)]
    for saved in results[1:]:
        if saved.ndim == 1 and saved.shape[0] == x.shape[1]:
            ledger.put(saved, [(0, ids) for ids in channels])
