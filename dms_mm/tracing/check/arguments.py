"""What a slim model gives to an operator where the supernet gives sizes or positions.

Both come from attributes that shrink with the model (DESIGN 3.5), so they are restated: a size is what the trace
predicts, a position is counted among those that live. Everything else is the same number in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .positions import Alive


@dataclass
class Cut:
    """A step in a slim run: which positions of its input and output tensors live, by the trace.

    ``copies``: dimensions of its first result whose length is what the function that calls it makes of others.
    """

    inputs: list[Alive]
    outputs: list[Alive]
    copies: set[int] = field(default_factory=set)

    def shape(self, k: int = 0) -> list[int]:
        """The predicted shape of output ``k``."""
        return [int(alive.sum()) for alive in self.outputs[k]]


Restatement = Callable[[Cut, Sequence[Any], dict[str, Any]], tuple[Sequence[Any], dict[str, Any]]]
RESTATED: dict[str, Restatement] = {}


def restated(*names: str) -> Callable[[Restatement], Restatement]:
    def register(function: Restatement) -> Restatement:
        for name in names:
            RESTATED['aten::' + name] = function
        return function

    return register


def _with(args: Sequence[Any], place: int, value: Any) -> list[Any]:
    return [value if k == place else a for k, a in enumerate(args)]


@restated(
    'view', '_unsafe_view', 'reshape', 'expand', 'broadcast_to', 'new_empty', 'new_zeros', 'new_ones', 'new_full',
    'view_copy', 'expand_copy',
)  # fmt: skip
def _size_second(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    if len(args) < 2 or not isinstance(args[1], (list, tuple)):
        return args, kwargs
    given = list(args[1])
    sizes = [given[d] if d in cut.copies and given[d] != -1 else n for d, n in enumerate(cut.shape())]
    return _with(args, 1, sizes), kwargs


@restated('full', 'zeros', 'ones', 'empty', 'rand', 'randn', 'empty_permuted')
def _size_first(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    return _with(args, 0, cut.shape()), kwargs


@restated('randint')
def _size_last(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    return _with(args, len(args) - 1, cut.shape()), kwargs


@restated('eye')
def _square(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    return cut.shape()[: len(args)], kwargs


@restated('_reshape_alias', 'as_strided', 'as_strided_')
def _strided(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    sizes, strides = cut.shape(), list(args[2])
    if [len(alive) for alive in cut.outputs[0]] != sizes:
        # The layout of the full tensor, packed anew.
        order, step = sorted(range(len(sizes)), key=lambda d: (strides[d], -d)), 1
        for d in order:
            strides[d], step = step, step * sizes[d]
    return [args[0], sizes, strides, *args[3:]], kwargs


@restated('slice')
def _positions(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    return _bounds(cut, [*args, *[0, None, None][len(args) - 1 :]], kwargs, 1)


@restated('narrow_copy')
def _length(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    x, dim, start, _ = args
    return [x, dim, int(cut.inputs[0][dim][:start].sum()), int(cut.outputs[0][dim].sum())], kwargs


@restated('slice_scatter')
def _scattered(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    return _bounds(cut, [*args, *[0, None, None][len(args) - 2 :]], kwargs, 2)


def _bounds(cut: Cut, args: list[Any], kwargs: dict[str, Any], first: int) -> tuple[Sequence[Any], dict[str, Any]]:
    kwargs = dict(kwargs)
    dim = kwargs.get('dim', args[first])
    alive = cut.inputs[0][dim]
    step = kwargs.get('step', args[first + 3] if len(args) > first + 3 else 1)
    for place, name in ((first + 1, 'start'), (first + 2, 'end')):
        given = kwargs.get(name, args[place] if place < len(args) else None)
        if given is not None and -len(alive) <= given <= len(alive):
            given += len(alive) if given < 0 else 0
            # Which of so many positions as a slice steps over is the first.
            phase = given % step if name == 'start' else 0
            value = int(alive[: given - phase].sum()) + phase
            if name in kwargs:
                kwargs[name] = value
            else:
                args[place] = value
    return args, kwargs


@restated('split', 'unsafe_split')
def _piece(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    dim = args[2] if len(args) > 2 else kwargs.get('dim', 0)
    return _with(args, 1, int(cut.outputs[0][dim].sum())), kwargs


@restated('split_with_sizes', 'unsafe_split_with_sizes', 'split_with_sizes_copy')
def _pieces(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    dim = args[2] if len(args) > 2 else kwargs.get('dim', 0)
    return _with(args, 1, [int(alive[dim].sum()) for alive in cut.outputs]), kwargs


@restated('convolution', '_convolution')
def _groups(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    whole = cut.inputs[0][1].reshape(args[8], -1)
    if (whole.all(1) | ~whole.any(1)).all():
        # Groups went, and not a part of each.
        args = _with(args, 8, int(whole.any(1).sum()))
    return args, kwargs


@restated('native_group_norm')
def _group_norm(cut: Cut, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    x = args[0]
    return [*args[:3], x.shape[0], x.shape[1], x[0, 0].numel(), *args[6:]], kwargs
