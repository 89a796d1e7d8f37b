"""Bounds of what operators give, from those of what they get: a rectified input passes a later ReLU as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .flow import Flow

Bounds = tuple[float, float]
ANY: Bounds = (-math.inf, math.inf)

FIXED: dict[str, Bounds] = {
    'sigmoid': (0.0, 1.0), 'hardsigmoid': (0.0, 1.0), '_softmax': (0.0, 1.0), 'tanh': (-1.0, 1.0),
    'abs': (0.0, math.inf), 'square': (0.0, math.inf),
    'linalg_vector_norm': (0.0, math.inf), 'norm': (0.0, math.inf), 'var': (0.0, math.inf), 'std': (0.0, math.inf),
    'exp': (0.0, math.inf), 'softplus': (0.0, math.inf), 'rand': (0.0, 1.0),
}  # fmt: skip
# Every value of the result is a value of the input, or lies between some of them.
BETWEEN = set(
    'view _unsafe_view _reshape_alias unsqueeze squeeze permute transpose t expand clone detach alias lift_fresh '
    '_to_copy slice select split split_with_sizes unbind reflection_pad1d reflection_pad2d replication_pad1d '
    'replication_pad2d roll flip repeat pixel_shuffle '
    'pixel_unshuffle channel_shuffle cat stack max_pool2d_with_indices max_pool3d_with_indices _adaptive_avg_pool2d '
    '_adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest1d '
    'upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_linear1d _upsample_bilinear2d_aa mean '
    'amax amin max min maximum minimum'.split()
)
# Sums with weights that are not negative.
POSITIVE = set('avg_pool1d avg_pool2d avg_pool3d sum native_dropout cumsum'.split())


def clamp_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bounds | None:
    """The bounds that an operator cuts its input to, if that is all it does."""
    if name == 'relu':
        return 0.0, math.inf
    if name == 'hardtanh':
        return (args[1] if len(args) > 1 else -1.0), (args[2] if len(args) > 2 else 1.0)
    if name in ('clamp', 'clamp_min', 'clamp_max'):
        low = kwargs.get('min', args[1] if len(args) > 1 and name != 'clamp_max' else None)
        high = kwargs.get('max', args[-1] if name == 'clamp_max' else args[2] if len(args) > 2 else None)
        low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
        if all(isinstance(v, (int, float)) for v in (low, high)):
            return float(low), float(high)
    return None


def bounds_of(name: str, flows: Sequence[Flow], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Bounds:
    """Bounds of an operator's result; ``flows`` are those of its tensors, ``name`` has no underscore at its end."""
    if name in FIXED:
        return FIXED[name]
    if not flows:
        return ANY
    low, high = min(f.low for f in flows), max(f.high for f in flows)
    if name in BETWEEN:
        return low, high
    if name in POSITIVE:
        return (0.0 if low >= 0 else -math.inf), (0.0 if high <= 0 else math.inf)
    cut = clamp_of(name, args, kwargs)
    if cut is not None:
        return min(max(low, cut[0]), cut[1]), min(max(high, cut[0]), cut[1])
    arithmetic: Callable[..., Bounds] | None = ARITHMETIC.get(name)
    return arithmetic(flows, args) if arithmetic is not None and kwargs.get('alpha', 1) == 1 else ANY


def _number(args: Sequence[Any], k: int) -> float | None:
    return float(args[k]) if len(args) > k and type(args[k]) in (int, float) else None


def _add(flows: Sequence[Flow], args: Sequence[Any]) -> Bounds:
    if len(flows) == 2:
        return flows[0].low + flows[1].low, flows[0].high + flows[1].high
    number = _number(args, 1)
    return ANY if number is None else (flows[0].low + number, flows[0].high + number)


def _scale(flows: Sequence[Flow], args: Sequence[Any]) -> Bounds:
    numbers = [n for k in (0, 1) if (n := _number(args, k)) is not None]
    signs = [(f.low, f.high) for f in flows] + [(n, n) for n in numbers]
    return (0.0, math.inf) if len(signs) == 2 and all(low >= 0 for low, _ in signs) else ANY


def _pad(flows: Sequence[Flow], args: Sequence[Any]) -> Bounds:
    value = float(args[2]) if len(args) > 2 and type(args[2]) in (int, float) else 0.0
    return min(flows[0].low, value), max(flows[0].high, value)


def _root(flows: Sequence[Flow], args: Sequence[Any]) -> Bounds:
    return tuple(math.sqrt(max(v, 0.0)) for v in (flows[0].low, flows[0].high))  # type: ignore[return-value]


def _power(flows: Sequence[Flow], args: Sequence[Any]) -> Bounds:
    """Of a number that is not negative, or an even one."""
    number = _number(args, 1)
    even = number is not None and number % 2 == 0
    if len(flows) > 1 or not (even or flows[0].low >= 0):
        return ANY
    return (flows[0].low ** number if flows[0].low > 0 and number is not None and number > 0 else 0.0), math.inf


ARITHMETIC: dict[str, Callable[..., Bounds]] = {
    'add': _add,
    'mul': _scale,
    'div': _scale,
    'constant_pad_nd': _pad,
    'sqrt': _root,
    'pow': _power,
}
