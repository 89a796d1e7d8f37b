"""Where autograd meets the masks: leaves that share one storage, and collect their gradients in another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Shaped(NamedTuple):
    """How some parameter needs a unit's mask: with ``dims`` dimensions of one behind it, or one ``element`` of it."""

    unit: int
    dims: int = 0
    element: int | None = None


class _Leaf(NamedTuple):
    mask: Tensor
    collector: Tensor
    shape: Shaped


class Leaves(Sequence[Tensor]):
    """Each unit's mask as a leaf: ``leaves[u]`` (n,), and in the shapes that were asked for.

    The leaves of a unit are views of the same numbers, and their ``grad`` of the same sum. So nothing reshapes a mask
    or picks from it in every forward, which would take a node of the graph and two calls each. They are made at once,
    not as they are met: what a forward under a transform, a dispatch mode or a compiler makes must not outlast it.

    Args:
        mask: (N,) the masks of all units.
        grad: (N,) zeros, where their gradients are summed.
        sizes: elements of each unit.
        shapes: that are needed beside (n,).
    """

    def __init__(self, mask: Tensor, grad: Tensor, sizes: Sequence[int], shapes: Iterable[Shaped] = ()) -> None:
        self.grad, self.sizes = grad, list(sizes)
        self.masks, self.grads = mask.split(self.sizes), grad.split(self.sizes)
        self.made: list[_Leaf] = []
        self.own = [self._make(Shaped(u)) for u in range(len(self.sizes))]
        self.shaped: dict[tuple[int, int, int | None], Tensor] = {}
        self.ask(shapes)

    def ask(self, shapes: Iterable[Shaped]) -> None:
        """Have leaves of these shapes, too."""
        for shape in shapes:
            if shape not in self.shaped and shape != Shaped(shape.unit):
                self.shaped[shape] = self._make(shape)

    def __len__(self) -> int:
        return len(self.own)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.own)

    def __getitem__(self, unit):  # type: ignore[no-untyped-def]
        return self.own[unit]

    def before(self, unit: int, dims: int) -> Tensor:
        """(n, 1, ..., 1) mask of a unit, for a dimension with ``dims`` others behind it."""
        if not dims:
            return self.own[unit]
        leaf = self.shaped.get((unit, dims, None))
        return _in_shape(self.own[unit], Shaped(unit, dims)) if leaf is None else leaf

    def element(self, unit: int, element: int) -> Tensor:
        """() mask of one element."""
        leaf = self.shaped.get((unit, 0, element))
        return self.own[unit][element] if leaf is None else leaf

    @torch.no_grad()
    def _make(self, shape: Shaped) -> Tensor:
        mask, collector = (_in_shape(x[shape.unit], shape).detach() for x in (self.masks, self.grads))
        mask.requires_grad_()
        mask.grad = collector
        self.made.append(_Leaf(mask, collector, shape))
        return mask

    @torch.no_grad()
    def collect(self) -> Tensor:
        """(N,) the sum of the gradients since the last call; what collects them is zero again.

        Raises:
            RuntimeError: backward passes with and without ``create_graph=True`` since then. Of the first kind each
                leaf's gradient stands by itself and has taken the sum of its unit with it, nobody knows how much of it.
        """
        astray = [leaf for leaf in self.made if leaf.mask.grad is not leaf.collector]
        mixed = self._mixed({leaf.shape.unit for leaf in astray})
        for leaf in astray:
            if leaf.mask.grad is not None:
                leaf.collector.add_(leaf.mask.grad)
            leaf.mask.grad = leaf.collector
        total = self.grad.clone()
        self.grad.zero_()
        if mixed:
            raise RuntimeError(
                'backward passes with and without create_graph=True between two steps of a search: their gradients '
                'cannot be told apart; use one of them'
            )
        return total

    def _mixed(self, units: set[int]) -> bool:
        """Some of the units has collected something already: what stands astray may contain it."""
        return bool(units) and any(bool(self.grads[unit].any()) for unit in units)

    def gradients(self, loss: Tensor) -> Tensor:
        """(N,) ``d(loss)/d(mask)``, zero where the loss does not depend on it; nothing is collected anywhere."""
        total = torch.zeros_like(self.grad)
        parts = total.split(self.sizes)
        for leaf, grad in zip(self.made, torch.autograd.grad(loss, [x.mask for x in self.made], allow_unused=True)):
            if grad is not None:
                _in_shape(parts[leaf.shape.unit], leaf.shape).add_(grad)
        return total


def _in_shape(x: Tensor, shape: Shaped) -> Tensor:
    if shape.element is not None:
        return x[shape.element]
    return x.view([-1] + [1] * shape.dims) if shape.dims else x
