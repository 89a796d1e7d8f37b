"""Programs as functions of real tensors."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..resources.latency import GROUPS, Action, Argument, Program, Size, size_of
from ..tracing import function_of

TELLING = 1 << 15  # bytes of weights from which on it matters where they are


class Runner:
    """A program at given sizes.

    Args:
        sizes: of its variables.
        like: another one of the same sizes, whose tensors are taken but for the constants.

    Raises:
        ValueError: a function that is not found again.
    """

    def __init__(
        self, program: Program, sizes: Sequence[int], batch: int, device: str, like: Runner | None = None
    ) -> None:
        self.program, self.sizes, self.batch, self.device = program, sizes, batch, device
        self.functions = [_function(action) for action in program.actions]
        self.tensors: list[Tensor] = [
            self._tensor(argument) if like is None or argument.constant else like.tensors[k]
            for k, argument in enumerate(program.arguments)
        ]

    @classmethod
    def several(cls, program: Program, sizes: Sequence[int], batch: int, device: str, copies: int) -> list[Runner]:
        """That differ in their constants. A forward comes back to a weight after it has used all others: which of them
        a cache still holds then, one weight alone would not show."""
        first = cls(program, sizes, batch, device)
        weight = sum(x.nbytes for x, a in zip(first.tensors, program.arguments) if a.constant)
        copies = copies if weight >= TELLING else 1
        return [first, *(cls(program, sizes, batch, device, first) for _ in range(copies - 1))]

    def shape(self, dims: Sequence[Size]) -> list[int]:
        return [size_of(d, self.sizes, self.batch) for d in dims]

    def _tensor(self, argument: Argument) -> Tensor:
        shape = self.shape(argument.dims)
        dtype = getattr(torch, argument.dtype.removeprefix('torch.'))
        order = argument.order or list(range(len(shape)))
        within = [shape[d] for d in order]
        if dtype.is_floating_point:
            # Positive, since it may be a variance.
            x = torch.rand(within, device=self.device).add_(0.5).to(dtype)
        else:
            x = torch.zeros(within, dtype=dtype, device=self.device)  # positions that are always there
        return x.permute([order.index(d) for d in range(len(shape))])

    def arguments(self, j: int, tensors: Sequence[Tensor], results: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Those of the j-th action."""
        action = self.program.actions[j]

        def value(given: Any) -> Any:
            if not isinstance(given, dict) or len(given) != 1:
                return {k: value(v) for k, v in given.items()} if isinstance(given, dict) else given
            (kind, what), *_ = given.items()
            if kind == 't':
                return tensors[what]
            if kind == 'r':
                found = results[what[0]]
                return found if isinstance(found, Tensor) else found[what[1]]
            if kind == 'seq':
                return tuple(value(v) for v in what)
            if kind == 'shape':
                return self.shape(action.results[what])
            if kind == 'b':
                return what * self.batch
            return torch.device(self.device) if what == 'device' else getattr(torch, what)

        kwargs = {k: v if v is None else value(v) for k, v in action.kwargs.items()}
        return fitting(action, [value(a) for a in action.args], kwargs)

    def __call__(self, *tensors: Tensor) -> Any:
        results: list[Any] = []
        for j, function in enumerate(self.functions):
            args, kwargs = self.arguments(j, tensors, results)
            results.append(function(*args, **kwargs))
        return results[-1]

    def bound(self) -> Callable[[], Any]:
        """Without arguments; of a single function just its call."""
        if len(self.functions) == 1:
            args, kwargs = self.arguments(0, self.tensors, [])
            return functools.partial(self.functions[0], *args, **kwargs)
        return functools.partial(self, *self.tensors)


def in_turn(calls: Sequence[Callable[[], Any]]) -> Callable[[], Any]:
    """One after the other, round and round."""
    if len(calls) == 1:
        return calls[0]
    following = itertools.cycle(calls).__next__
    return lambda: following()()


class ProgramModule(nn.Module):
    """A program as a module: what follows from parameters alone are its parameters ``p0``, ``p1``, ..."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner
        self.places = [k for k, a in enumerate(runner.program.arguments) if not a.constant]
        for k, x in enumerate(runner.tensors):
            if k not in self.places:
                self.register_buffer(f'p{k}', x)

    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(self.runner.tensors[k] for k in self.places)

    def forward(self, *inputs: Tensor) -> Any:
        given = dict(zip(self.places, inputs))
        tensors = [given[k] if k in given else getattr(self, f'p{k}') for k in range(len(self.runner.tensors))]
        return self.runner(*tensors)


def _function(action: Action) -> Callable[..., Any]:
    function = function_of(action.function)
    if function is None:
        raise ValueError(f'no function {action.function or "of a name"}')
    return function


def fitting(action: Action, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments with the numbers that follow from their tensors' sizes."""
    name = action.name

    def put(place: int, key: str, new: Callable[[Any], Any]) -> None:
        if key in kwargs:
            kwargs[key] = new(kwargs[key])
        elif place < len(args):
            args[place] = new(args[place])

    first = next((a for a in [*args, *kwargs.values()] if isinstance(a, Tensor)), None)
    if first is None:
        return args, kwargs
    if name in ('conv1d', 'conv2d', 'conv3d'):
        weight = args[1] if len(args) > 1 else kwargs['weight']
        put(GROUPS, 'groups', lambda groups: first.shape[first.ndim - weight.ndim + 1] // weight.shape[1])
    elif name.startswith('conv_transpose'):
        # A group takes whole channels, or goes; never less than one is left for each.
        put(GROUPS, 'groups', lambda groups: math.gcd(groups, first.shape[1]) if groups > 1 else 1)
    elif name in ('layer_norm', 'rms_norm'):
        put(1, 'normalized_shape', lambda shape: tuple(first.shape[first.ndim - len(shape) :]))
    elif name == 'group_norm':
        put(1, 'num_groups', lambda groups: math.gcd(groups, first.shape[1]))
    elif name == 'multi_head_attention_forward':
        put(3, 'embed_dim_to_check', lambda width: first.shape[-1])
        put(4, 'num_heads', lambda heads: math.gcd(heads, first.shape[-1]))
    return args, kwargs
