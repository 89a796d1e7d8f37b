"""Detections compared as sets: boxes of nearly equal scores come in another order on another processor."""

import torch
from scipy.optimize import linear_sum_assignment


def same_detections(a, b, box=1e-4, score=1e-5):
    """Every instance of ``a`` is one of ``b``, and the other way round.

    Args:
        a, b: instances with ``bboxes`` (N, 4) in pixels, ``scores`` (N,) and ``labels`` (N,).
        box, score: largest difference of a coordinate, and of a score.
    """
    if not torch.equal(a.labels.sort().values, b.labels.sort().values):
        return False
    for label in a.labels.unique():
        mine, theirs = (torch.cat([x.bboxes / box, x.scores[:, None] / score], 1)[x.labels == label] for x in (a, b))
        distance = (mine[:, None] - theirs[None]).abs().amax(2)
        if distance[linear_sum_assignment(distance.numpy())].max() >= 1:
            return False
    return True
