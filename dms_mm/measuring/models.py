"""Whole slim models: random structures, what their operators add up to, and what they take."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..algorithms.strategies.structures import untouched
from ..resources.latency import KINDS, Correction, Kind, Latency, ModelTime
from ..space import SearchSpace

LEAST = 0.1  # factor of a kind: what counts for nothing could not be searched
PULL = 0.01  # towards the bare sum, beside relative errors of models: what few of them don't tell stays as it is


@torch.no_grad()
def random_structure(space: SearchSpace, seed: int) -> Tensor:
    """(N,) bool: a random structure. Widths are log-normal about a common scale that is spread over all sizes, depths
    uniform over what their units allow."""
    generator = torch.Generator().manual_seed(seed)
    bank, units = space.bank, list(space.units.values())
    scale = math.exp(math.log(8) * (float(torch.rand((), generator=generator)) - 1))
    counts = []
    for unit in units:
        low, high = unit.bounds()
        if unit.kind == 'depth':
            counts.append(float(torch.randint(low, high + 1, (), generator=generator)))
        else:
            counts.append(scale * math.exp(0.4 * float(torch.randn((), generator=generator))) * unit.size)
    keep = torch.zeros(len(bank.segment), dtype=torch.bool)
    for unit, count in zip(units, bank.grid.nearest(torch.tensor(counts, device=bank.size.device)).tolist()):
        order = torch.randperm(unit.size, generator=generator) if unit.kind == 'depth' else torch.arange(unit.size)
        keep[unit.start : unit.start + unit.size] = order < count
    return keep.to(bank.keep.device)


def slim_of(space: SearchSpace, keep: Tensor) -> nn.Module:
    """A plain slim model of a structure; the space stays as it is."""
    with untouched(space), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # narrow layers are a matter of training
        space.bank.harden_all(keep)
        return space.slim().eval()


@torch.no_grad()
def parts_of(space: SearchSpace, latency: Latency, keep: Tensor) -> tuple[dict[Kind, float], float]:
    """Sums of the operators' times by kind, and the number of functions that are called."""
    masks = keep.double()
    kept = torch.zeros(len(space.bank.sizes), dtype=torch.float64, device=keep.device)
    parts, launches = latency.parts(kept.index_add(0, space.bank.segment, masks), masks)
    return dict(zip(KINDS, parts.tolist())), float(launches)


def predicted(correction: Correction, parts: dict[Kind, float], launches: float) -> float:
    factors = sum(correction.factors.get(kind, 1.0) * seconds for kind, seconds in parts.items())
    return correction.offset + correction.launch * launches + factors


def fitted(models: Sequence[ModelTime]) -> Correction:
    """The non-negative correction with the least squared relative errors over whole models."""
    if not models:
        return Correction()
    seconds = np.array([max(m.seconds, 1e-12) for m in models])
    columns = np.array([[1.0, m.launches, *(m.parts.get(kind, 0.0) for kind in KINDS)] for m in models])
    kinds = [1.0] * len(KINDS)
    scale = np.array([seconds.mean(), seconds.mean() / max(columns[:, 1].mean(), 1e-12), *kinds])
    prior = np.array([0.0, 0.0, *kinds])
    weight = math.sqrt(PULL * len(models) / len(prior))
    rows = np.concatenate([columns * scale / seconds[:, None], weight * np.eye(len(prior))])
    wanted = np.concatenate([np.ones(len(models)), weight * prior])
    low = LEAST * prior
    x = (low + _non_negative(rows, wanted - rows @ low)) * scale
    correction = Correction(
        offset=float(x[0]), launch=float(x[1]), factors={kind: float(f) for kind, f in zip(KINDS, x[2:])}
    )
    errors = [abs(predicted(correction, m.parts, m.launches) / s - 1) for m, s in zip(models, seconds)]
    return correction.model_copy(update=dict(error=float(np.median(errors))))


def _non_negative(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Least squares over numbers of zero or more, one after the other until none moves."""
    square, right = rows.T @ rows, rows.T @ wanted
    x = np.zeros(len(right))
    for _ in range(20_000):
        before = x.copy()
        for k in range(len(x)):
            x[k] = max(0.0, x[k] + (right[k] - square[k] @ x) / square[k, k])
        if np.abs(x - before).max() <= 1e-10 * max(np.abs(x).max(), 1e-30):
            break
    return x
