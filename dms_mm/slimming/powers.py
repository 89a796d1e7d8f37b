"""What operators make of a factor in their tensors: the power of it in their results."""

from __future__ import annotations

import numpy as np

from ..tracing import Call
from ..tracing.residual import COPY, MADE, REARRANGE, SCALING

# Homogeneous in their first tensor, for positive factors.
SAME = (SCALING - {'div'}) | set(
    'sum cumsum gather index index_select embedding tril triu unfold im2col col2im view_as_real view_as_complex '
    'diagonal abs as_strided linalg_vector_norm masked_fill constant_pad_nd'.split()
)
PIECES = set('slice select split split_with_sizes unbind'.split())
MOVED = REARRANGE | COPY | PIECES | set('permute transpose t expand roll flip'.split())
PRODUCTS = {'mm', 'bmm', 'mv', 'convolution'}
WITH_BIAS = {'addmm', 'baddbmm', 'addbmm', 'addmv'}
NORMS = {'native_layer_norm', 'native_group_norm'}
# Where an operator multiplies a tensor by a number: operator -> number -> the tensors of which one is multiplied, and
# the sign of the power.
FACTORS: dict[str, dict[str, tuple[tuple[str, ...], float]]] = {
    'mul': {'other': (('self',), 1.0), 'self': (('other',), 1.0)},
    'div': {'other': (('self',), -1.0)},
    'add': {'alpha': (('other',), 1.0)},
    'sub': {'alpha': (('other',), 1.0)},
    'addcmul': {'value': (('tensor1',), 1.0)},
    'addcdiv': {'value': (('tensor1',), 1.0)},
    'addmm': {'alpha': (('mat1',), 1.0), 'beta': (('self',), 1.0)},
    'addmv': {'alpha': (('mat',), 1.0), 'beta': (('self',), 1.0)},
    'baddbmm': {'alpha': (('batch1',), 1.0), 'beta': (('self',), 1.0)},
    'addbmm': {'alpha': (('batch1',), 1.0), 'beta': (('self',), 1.0)},
}


def base_name(call: Call) -> str:
    """The operator's name, without namespace and whether it is in place."""
    return call.name.partition('::')[2].rstrip('_') or call.name


def multiplied(call: Call, argument: str) -> tuple[int, float] | None:
    """The place among a call's tensors of the one that a number multiplies, and the power of the number; or None."""
    name = base_name(call)
    found = FACTORS.get(name, {}).get(argument)
    if found is None or (name == 'div' and 'rounding_mode' in call.numbers):
        return None
    places = [call.arguments.index(tensor) for tensor in found[0] if tensor in call.arguments]
    return (places[0], found[1]) if places else None


def power_of(call: Call, powers: list[float]) -> float | None:
    """The power of a factor in the result of an operator, None if it is not homogeneous in what is scaled."""
    name = base_name(call)
    if name in MADE:
        return 0.0
    if name == 'whole':
        linear = {p for p, argument in zip(powers, call.arguments) if argument == 'linear'}
        rest = any(p for p, argument in zip(powers, call.arguments) if argument != 'linear')
        return linear.pop() if len(linear) == 1 and not rest else None
    if not any(powers):
        return 0.0
    if name in SAME:
        fill = call.numbers.get('value', np.zeros(()))
        zero = name not in ('masked_fill', 'constant_pad_nd') or bool(((fill == 0) | np.isinf(fill)).all())
        return powers[0] if zero and not any(powers[1:]) else None
    if name == 'cat':
        some = set(powers) - {0.0}
        return some.pop() if len(some) == 1 else None
    if name in ('add', 'sub', 'stack'):
        return powers[0] if len(powers) > 1 and len(set(powers)) == 1 else None
    if name == 'mul':
        return sum(powers)
    if name == 'div':
        second = powers[1] if len(powers) > 1 else 0.0
        return None if 'rounding_mode' in call.numbers else powers[0] - second
    if name in ('mm', 'bmm', 'mv') or (name == 'convolution' and len(powers) == 2):
        return powers[0] + powers[1]
    if name == 'convolution':
        return powers[2] if powers[0] + powers[1] == powers[2] else None
    if name in WITH_BIAS:
        ignored = bool((call.numbers.get('beta', np.ones(())) == 0).all())
        total = powers[1] + powers[2]
        return total if ignored or total == powers[0] else None
    if name in ('addcmul', 'addcdiv'):
        total = powers[1] + powers[2] * (1 if name == 'addcmul' else -1)
        return total if total == powers[0] else None
    if name in NORMS or 'batch_norm' in name:
        affine = {p for p, argument in zip(powers, call.arguments) if argument in ('weight', 'bias')}
        rest = any(p for p, argument in zip(powers, call.arguments) if argument not in ('weight', 'bias'))
        return affine.pop() if len(affine) == 1 and not rest else None
    return None
