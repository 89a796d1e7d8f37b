"""Hard structures of a space as (N,) bool: made from scores and ratios, drawn, and built."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...slimming import Structure
from ...space import SearchSpace
from ..budget import fit_counts, parse_target, uniform_keep

LEAST = 0.99  # part of a target that a structure has to use


@contextmanager
def untouched(space: SearchSpace) -> Iterator[None]:
    """What the bank holds and shows is the same after as before, bit for bit."""
    bank = space.bank
    names = ('importance', 'ratio', 'keep', 'hardened', 'warm')
    before = {name: getattr(bank, name).detach().clone() for name in names}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                getattr(bank, name).copy_(value)
        bank.refresh()


@contextmanager
def ranked(space: SearchSpace, scores: Tensor) -> Iterator[None]:
    """Inside, elements are ranked by ``scores`` (N,)."""
    with untouched(space):
        space.bank.importance.copy_(scores)
        space.bank.refresh()
        yield


def depth_units(space: SearchSpace) -> Tensor:
    """(U,) bool."""
    return torch.tensor([u.kind == 'depth' for u in space.units.values()], device=space.bank.size.device)


def counts_of(space: SearchSpace, keep: Tensor) -> Tensor:
    """(U,) long: how many elements of each unit are kept."""
    bank = space.bank
    return torch.zeros_like(bank.size).index_add(0, bank.segment, keep.to(bank.size))


def shares_of(space: SearchSpace, targets: Mapping[str, float], keep: Tensor) -> Tensor:
    """(U,) part of each unit that a structure keeps; of widths that cost nothing (in a block that is gone), where a
    number says nothing, the median of the others."""
    bank, depth = space.bank, depth_units(space)
    with torch.enable_grad():
        kept = counts_of(space, keep).double().requires_grad_()
        cost = sum(space.counters[name].value(kept, keep.double()) / target for name, target in targets.items())
        (grad,) = torch.autograd.grad(cost, kept, allow_unused=True)  # type: ignore[arg-type]
    share = kept.detach() / bank.size
    living = depth if grad is None else depth | (grad != 0)
    widths = share[living & ~depth]
    return torch.where(living, share, widths.median()) if len(widths) else share


@torch.no_grad()
def fitted(
    space: SearchSpace, targets: Mapping[str, float], scores: Tensor, share: Tensor, blocks: Tensor | None = None
) -> Tensor:
    """(N,) bool: the structure that just meets the targets with widths in the proportions of ``share``.

    Args:
        targets: absolute ones.
        scores: (N,) by which elements are kept.
        share: (U,) above 0, the part of each unit; of widths only the proportions count.
        blocks: (N,) bool, of depth units the blocks that stay; else as many as ``share`` says, by their scores. Where
            the targets are out of reach with them, the least important go; where they leave room, others stay.
    """
    bank, depth = space.bank, depth_units(space)
    if blocks is not None:
        # Chosen blocks before the others, and as many of them.
        low, high = scores.min(), scores.max()
        lifted = scores + torch.where(blocks, high - low + 1, torch.zeros_like(scores))
        scores = torch.where(bank.spread(depth), lifted, scores)
        share = torch.where(depth, counts_of(space, blocks) / bank.size, share)
    with ranked(space, scores.to(bank.importance)):
        best, most = None, -1.0
        counts: Tensor | None = bank.hard_counts(1 - share)
        while counts is not None and most < LEAST:
            ratio = torch.where(depth, 1 - counts / bank.size, 1 - share)
            keep = fit_counts(space, targets, ratio)
            used = max(space.counters[name].count(keep, bank) / target for name, target in targets.items())
            if used > most:
                best, most = keep, used
            counts = _one_more(space, counts, depth)
    assert best is not None
    return best


def _one_more(space: SearchSpace, counts: Tensor, depth: Tensor) -> Tensor | None:
    """``counts`` with a block more, in the stage that has the fewest of its own; None if all are there."""
    bank = space.bank
    thin = torch.where(depth & ~bank.hardened & (counts < bank.grid.high), counts / bank.size, torch.inf)
    if not bool(torch.isfinite(thin).any()):
        return None
    return bank.grid.moved(counts, int(thin.argmin()), 1)


@torch.no_grad()
def random_keep(
    space: SearchSpace,
    target: Mapping[str, float],
    generator: torch.Generator,
    sigma: float = 0.4,
    scores: Tensor | None = None,
) -> Tensor:
    """(N,) bool: a random structure that just meets the target.

    Every width is log-normal about a common scale, every depth uniform over what its unit allows, of random blocks.

    Args:
        target: as of :class:`dms_mm.Search`.
        generator: on the CPU, so that the same seed gives the same structures on every device.
        sigma: spread of the logarithm of widths.
        scores: (N,) by which elements of widths are kept; the first of each unit by default.
    """
    scores = index_order(space) if scores is None else scores
    return drawn(space, parse_target(space, target), generator, sigma, scores)


def drawn(
    space: SearchSpace, targets: Mapping[str, float], generator: torch.Generator, sigma: float, scores: Tensor
) -> Tensor:
    """:func:`random_keep` for absolute targets."""
    share = torch.exp(sigma * torch.randn(len(space.units), generator=generator, dtype=torch.float64))
    return fitted(space, targets, scores, share.to(scores.device), _blocks(space, generator))


def _blocks(space: SearchSpace, generator: torch.Generator) -> Tensor:
    blocks = torch.ones(len(space.bank.segment), dtype=torch.bool)
    for unit in space.units.values():
        if unit.kind == 'depth':
            low, high = unit.bounds()
            count = int(torch.randint(low, high + 1, (), generator=generator))
            order = torch.randperm(unit.size, generator=generator)
            blocks[unit.start : unit.start + unit.size] = order < count
    return blocks.to(space.bank.keep.device)


def index_order(space: SearchSpace) -> Tensor:
    """(N,) scores by which the first elements of each unit are kept (table 6)."""
    return -torch.arange(len(space.bank.segment), dtype=space.bank.importance.dtype, device=space.bank.segment.device)


def uniform_structures(space: SearchSpace, target: Mapping[str, float], scores: Tensor) -> list[Tensor]:
    """Uniform scaling of widths, and of widths and depths."""
    with ranked(space, scores):
        return [uniform_keep(space, target, scale_depth) for scale_depth in (False, True)]


def slim_of(space: SearchSpace, keep: Tensor) -> nn.Module:
    """A new plain model of a structure; the space stays as it is."""
    with tried(space, keep):
        return space.slim()


def structure_of(space: SearchSpace, keep: Tensor) -> Structure:
    """What ``keep`` (N,) bool is as a structure file; the space stays as it is."""
    with tried(space, keep):
        return space.structure()


@contextmanager
def tried(space: SearchSpace, keep: Tensor) -> Iterator[None]:
    """Inside, the space shows a structure."""
    with untouched(space), warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # on layers of structures that are only tried
        space.bank.harden_all(keep)
        yield


def macs_of(space: SearchSpace, keep: Tensor) -> float:
    return float(space.counters['macs'].count(keep, space.bank))
