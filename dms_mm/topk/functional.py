"""The differentiable top-k of DMS (section 3.1) as pure tensor functions."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_order(importance: Tensor, segment: Tensor, start: Tensor) -> Tensor:
    """(N,) long, the elements by segment and, within one, by score from the least; equal scores by index.

    A stable sort, O(N log N).

    Args:
        importance: (N,) raw scores.
        segment: (N,) long, the segment of each element; segments are contiguous and ascending.
        start: (S,) long, first element of each segment.
    """
    scores = importance.detach()
    if scores.dtype != torch.float32:
        by_score = torch.argsort(scores, stable=True)
        return by_score[torch.argsort(segment[by_score], stable=True)]
    # One sort for two: the bits of a float, as an integer, behind the number of its segment.
    bits = (scores + 0.0).view(torch.int32)  # of the two zeros one
    key = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long() + (segment << 32)
    place = (len(scores) - 1).bit_length()
    if key.device.type != 'cpu' or place + len(start).bit_length() > 31:
        return torch.argsort(key, stable=True)
    # With the element's own number at its end a key needs no index beside it, and NumPy sorts plain numbers fastest.
    key = (key << place) + torch.arange(len(scores))
    try:
        key.numpy().sort()
    except RuntimeError:  # torch without NumPy
        key = torch.sort(key).values
    return key & ((1 << place) - 1)


def places(order: Tensor, segment: Tensor, start: Tensor) -> Tensor:
    """(N,) long: where each element stands within its segment in an order by :func:`segment_order`, from 0."""
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return place - start.index_select(0, segment)


def segment_ranks(importance: Tensor, segment: Tensor, start: Tensor, size: Tensor) -> Tensor:
    """Rank of every element inside its segment over the segment's size (eq. 2); equal scores are ranked by index.

    Args:
        importance: (N,) raw scores.
        segment: (N,) long, the segment of each element; segments are contiguous and ascending.
        start: (S,) long, first element of each segment.
        size: (S,) long, number of elements of each segment.

    Returns:
        (N,) floats of the dtype of ``importance``, evenly spaced in [0, 1) within each segment. No gradient.
    """
    place = places(segment_order(importance, segment, start), segment, start)
    return place.to(importance.dtype) / size.index_select(0, segment).to(importance.dtype)


def soft_mask(rank: Tensor, ratio: Tensor, temperature: Tensor | float) -> Tensor:
    """``sigmoid(temperature * (rank - ratio))`` (eq. 3); gradient to ``ratio`` alone."""
    return torch.sigmoid(temperature * (rank.detach() - ratio))


def differentiable_topk(
    importance: Tensor, ratio: Tensor, temperature: float | None = None, place: float = 0.0
) -> Tensor:
    """Soft mask that keeps the most important ``round((1 - ratio) * N)`` of N elements (eq. 2 and 3).

    Args:
        importance: (N,) scores; they only decide the order and get no gradient.
        ratio: () pruning ratio in [0, 1], differentiable.
        temperature: sharpness lambda; None means N, the paper's choice for widths (4N for small counts).
        place: of a rank in its N-th part of [0, 1): eq. 2 has 0; searches take the middle, 1/2
            (:class:`~dms_mm.topk.TopkBank`).

    Returns:
        (N,) mask in (0, 1). All ones while the scores don't differ, as nothing can be ranked yet; a single element has
        no order to wait for, and the rank 1/2.
    """
    if importance.ndim != 1:
        raise ValueError(f'importance must have one dimension, got shape {tuple(importance.shape)}')
    count = importance.numel()
    if count != 1 and (count == 0 or bool((importance == importance[0]).all())):
        return torch.ones_like(importance)
    zero = torch.zeros(count, dtype=torch.long, device=importance.device)
    rank = segment_ranks(importance, zero, zero[:1], zero[:1] + count) + (0.5 if count == 1 else place / count)
    return soft_mask(rank, ratio, count if temperature is None else temperature)


def taylor(mask: Tensor, grad: Tensor) -> Tensor:
    """Taylor score ``(m * g)^2`` (eq. 4)."""
    return (mask * grad).square()


def fisher(mask: Tensor, grad: Tensor) -> Tensor:
    """Fisher score ``g^2`` (table 6)."""
    return grad.square()


def snip(mask: Tensor, grad: Tensor) -> Tensor:
    """SNIP score ``|m * g|`` (table 6)."""
    return (mask * grad).abs()


SCORES = {'taylor': taylor, 'fisher': fisher, 'snip': snip}
