"""A few structures between uniform scaling and what a search found, compared by a short common training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..space import SearchSpace
from .budget import fit_counts, parse_target, uniform_keep
from .cost import Cost, averaged
from .search import Search
from .strategies.structures import macs_of, ranked, shares_of, slim_of, untouched

SHARES = (0.0, 0.5, 1.0)


def between(
    space: SearchSpace,
    target: Mapping[str, float],
    keep: Tensor,
    shares: Sequence[float] = SHARES,
    low: Tensor | None = None,
) -> list[Tensor]:
    """(N,) bool each: structures that just meet the target, on the way from uniform scaling of widths and depths to
    ``keep``.

    In between every unit keeps ``p^(1 - s) q^s``, with ``p`` what it keeps of itself in the one and ``q`` in the other,
    scaled together. Units that are hardened in the space stay as they are.

    Args:
        target: as of :class:`dms_mm.Search`.
        keep: (N,) bool, the structure at the end of the way.
        shares: of the way, from 0 to 1.
        low: (U,) long, fewest elements of each unit.
    """
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise ValueError(f'shares={tuple(shares)} of candidates must be some numbers from 0 to 1')
    targets = parse_target(space, target)
    # What is kept at the end goes last on the way.
    with ranked(space, space.bank.rank + keep):
        uniform = uniform_keep(space, targets, scale_depth=True)
        ends = [_kept(space, targets, x).log() for x in (uniform, keep)]
        known: dict[float, Tensor] = {0.0: uniform, 1.0: keep}
        for share in shares:
            if share not in known:
                ratio = 1 - torch.exp((1 - share) * ends[0] + share * ends[1])
                known[share] = fit_counts(space, targets, ratio, low)
    return [known[share] for share in shares]


def _kept(space: SearchSpace, targets: Mapping[str, float], keep: Tensor) -> Tensor:
    """(U,) float64 above 0, what a structure keeps of each unit."""
    # A stage without blocks has a logarithm, too.
    return torch.maximum(shares_of(space, targets, keep).double(), 0.25 / space.bank.size.double())


def candidates_of(search: Search, shares: Sequence[float] = SHARES) -> list[Tensor]:
    """:func:`between` for a search at its end, before :meth:`Search.finalize`; the search stays as it is."""
    space, bank = search.space, search.bank
    with untouched(space):
        keep = search.fitted()
        bank.hardened &= ~bank.get_buffer('held')  # blocks are on the way, too
        return between(space, search.targets, keep, shares, search.rule.low)


@dataclass
class Compared:
    """What a comparison came to.

    Attributes:
        scores: of the structures, in their order; higher is better.
        best: which has the highest one, the first of equal ones; None if none is finite.
        cost: of their training and of the scores.
    """

    scores: list[float]
    best: int | None
    cost: Cost


def compare(
    space: SearchSpace,
    structures: Sequence[Tensor],
    train: Callable[[nn.Module], int],
    score: Callable[[nn.Module], tuple[float, int]],
    build: Callable[[SearchSpace, Tensor], nn.Module] = slim_of,
    log: Callable[[str], None] = lambda line: None,
) -> Compared:
    """Train each structure (N,) bool as a slim model, and score it; the space stays as it is.

    For a fair comparison each call of ``train`` takes the same seeds and the same batches in the same order.

    Args:
        train: trains a slim model in place, from weights that it draws or as they are; returns how many samples it
            took.
        score: of a trained model, on images that ``train`` doesn't see, higher for the better one; and how many.
        build: the slim model of a structure; by default with the weights of the supernet.
        log: called with a line on each structure.
    """
    cost, scores = Cost(), []
    with cost.clock():
        for number, keep in enumerate(structures):
            model, macs = build(space, keep), macs_of(space, keep)
            cost.add(macs, train(model), backward=True)
            value, samples = score(model)
            cost.add(macs, samples)
            # The same on all processes, whatever images each has seen.
            scores.append(float(averaged(torch.tensor(value, dtype=torch.float64, device=keep.device))))
            log(f'candidate {number + 1} of {len(structures)}: {scores[-1]:.6g}; {cost}')
    finite = [k for k, score in enumerate(scores) if math.isfinite(score)]
    return Compared(scores, max(finite, key=scores.__getitem__, default=None), cost)
