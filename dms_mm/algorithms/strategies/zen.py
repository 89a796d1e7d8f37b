"""Zen-score: structures judged by what noise does to their features (Lin et al., ICCV 2021, arXiv 2102.01063)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...registry import JUDGES
from ...space import SearchSpace
from .judges import Judge
from .structures import macs_of, slim_of
from .task import Budget, Task, device_of, mode_of, seeded


@JUDGES.register_module()
class ZenScore(Judge):
    """``log E|f(x) - f(x + alpha e)| + sum_i log sigma_i``: algorithm 1 of the paper.

    Inputs x and e are Gaussian, and so are all weights; f are the features before the classifier; ``sigma_i^2`` is the
    mean variance that batch norm i divides by, and its summand takes back what the norm hides. Residual links are left
    out, as in the algorithm; absolute differences are summed, as in the authors' code. Layer and group norms, which
    the paper has none of, count like batch norms.

    Args:
        alpha: size of the disturbance.
        batch: inputs in a batch.
        repeats: draws of weights and inputs; the score is the mean over them.
        features: module whose output is taken; by default what runs last and has more than one position.
    """

    def __init__(self, alpha: float = 0.01, batch: int = 16, repeats: int = 8, features: str | None = None) -> None:
        self.alpha, self.batch, self.repeats, self.features = alpha, batch, repeats, features

    def score(self, space: SearchSpace, keep: Tensor, task: Task, budget: Budget) -> float:
        if not task.shape:
            raise ValueError('Zen-score makes its own inputs: give Task(shape=...)')
        model, macs = slim_of(space, keep), macs_of(space, keep)
        device, dtype = device_of(model), next(model.parameters()).dtype
        links = set(space.plan.trace.residual)
        scores = []
        with torch.no_grad(), mode_of(model, True), seeded(budget.seed, device):
            for _ in range(self.repeats):
                gaussian(model)
                x, e = torch.randn(2, self.batch, *task.shape, device=device, dtype=dtype)
                with without_links(model, links), variances(model) as sigmas:
                    one = self._features(model, task, x)
                    divisors = dict(sigmas)
                    two = self._features(model, task, x + self.alpha * e)
                budget.cost.add(macs, 2 * self.batch)
                scores.append(logarithm((one - two).abs().sum(1).mean()) + sum(map(logarithm, divisors.values())))
        return sum(scores) / len(scores)

    def _features(self, model: nn.Module, task: Task, x: Tensor) -> Tensor:
        """(B, all features) float64."""
        found: list[Any] = []

        def keep(module: nn.Module, args: Any, out: Any) -> None:
            if self.features is not None or (isinstance(out, Tensor) and positions(out) > 1):
                found[:] = [out]

        whole = [model.get_submodule(self.features)] if self.features is not None else None
        hooks = [m.register_forward_hook(keep) for m in whole or model.modules() if whole or not any(m.children())]
        try:
            out = task.forward(model, x)
        finally:
            for hook in hooks:
                hook.remove()
        leaves = [t for t in tree_leaves(found[0] if found else out) if isinstance(t, Tensor)]
        return torch.cat([t.double().reshape(len(x), -1) for t in leaves], 1)


def positions(x: Tensor) -> int:
    """Of (B, C, ...) or (B, T, C): places that a classifier would take the mean of."""
    return x.shape[2:].numel() if x.ndim > 3 else x.shape[1] if x.ndim == 3 else 1


def logarithm(x: Tensor) -> float:
    """Of what is 0 or no number, minus infinity: the worst score."""
    return math.log(float(x)) if math.isfinite(float(x)) and float(x) > 0 else -math.inf


def gaussian(model: nn.Module) -> None:
    """All weights from N(0, 1), all biases 0, norms that do nothing but normalise."""
    for module in model.modules():
        norm = isinstance(module, (_BatchNorm, nn.LayerNorm, nn.GroupNorm))
        for name, parameter in module.named_parameters(recurse=False):
            if norm:
                parameter.fill_(1.0 if name == 'weight' else 0.0)
            elif parameter.ndim > 1:
                parameter.normal_()
            elif 'bias' in name:
                parameter.zero_()


@contextmanager
def variances(model: nn.Module) -> Iterator[dict[nn.Module, Tensor]]:
    """Norm -> ``sigma`` of what it got last, the root of the mean variance."""
    found: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, args: Any) -> None:
        found[module] = variance(module, args[0].double()).mean().sqrt()

    norms = [m for m in model.modules() if isinstance(m, (_BatchNorm, nn.LayerNorm, nn.GroupNorm))]
    hooks = [m.register_forward_pre_hook(note) for m in norms]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def variance(norm: nn.Module, x: Tensor) -> Tensor:
    """Variances of (B, C, ...) that a norm divides by."""
    if isinstance(norm, _BatchNorm):
        return x.transpose(0, 1).flatten(1).var(1, correction=0)
    if isinstance(norm, nn.GroupNorm):
        return x.reshape(len(x), norm.num_groups, -1).var(2, correction=0)
    shape = tuple(norm.normalized_shape)  # type: ignore[arg-type]
    if tuple(x.shape[-len(shape) :]) != shape:  # layer norms of channels that come first
        return x.var(1, correction=0)
    return x.flatten(-len(shape)).var(-1, correction=0)


@contextmanager
def without_links(model: nn.Module, blocks: set[str]) -> Iterator[None]:
    """Inside, the ``blocks`` of a model give what they add to their input, without the input."""
    streams: list[list[Tensor]] = []  # of blocks that run now: the input, or what has taken its place

    def begin(module: nn.Module, args: Any) -> None:
        streams.append([x for x in args[:1] if isinstance(x, Tensor)])

    def end(module: nn.Module, args: Any, out: Any) -> None:
        streams.pop()

    chosen = [m for name, m in model.named_modules() if name in blocks]
    hooks = [m.register_forward_pre_hook(begin) for m in chosen]
    hooks += [m.register_forward_hook(end, always_call=True) for m in chosen]
    try:
        with Unlinked(streams):
            yield
    finally:
        for hook in hooks:
            hook.remove()


class Unlinked(TorchDispatchMode):
    """Sums of the innermost block's stream and something else are the something else, which is the stream from then on.

    A stream is told by its memory, which nothing else takes while the block runs.
    """

    def __init__(self, streams: list[list[Tensor]]) -> None:
        super().__init__()
        self.streams = streams

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        adds: tuple[Callable[..., Any], ...] = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)
        if func in adds and self.streams and self.streams[-1]:
            stream = self.streams[-1]
            a, b = args[:2]
            if same(a, stream[0]) or same(b, stream[0]):
                branch = b if same(a, stream[0]) else a
                if isinstance(branch, Tensor) and branch.shape == stream[0].shape and not same(branch, stream[0]):
                    # In place, the first argument has to hold the result.
                    stream[0] = branch if func is adds[0] or branch is a else a.copy_(branch)
                    return stream[0]
        return func(*args, **(kwargs or {}))


def same(a: Any, b: Tensor) -> bool:
    return isinstance(a, Tensor) and a.shape == b.shape and a.data_ptr() == b.data_ptr() and a.stride() == b.stride()
