"""Whether a factor in a forward can be undone in parameters: followed along the operators of a trace.

Some parameters are divided by a factor, and some operators multiply by it. Every value then is its own times a power of
the factor, as long as operators are homogeneous in what is scaled; the change is sound if that power is zero wherever
an operator is not, and in what the model returns.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from ..tracing import Call, Entries, IntArray, Trace, Value
from ..tracing.residual import COPY, MADE, REARRANGE, SCALING
from .plan import Rows

# Homogeneous in their first tensor, for positive factors.
SAME = (SCALING - {'div'}) | set(
    'sum cumsum gather index tril triu unfold im2col col2im view_as_real view_as_complex diagonal abs as_strided '
    'linalg_vector_norm masked_fill constant_pad_nd'.split()
)
PIECES = set('slice select split split_with_sizes unbind'.split())
MOVED = REARRANGE | COPY | PIECES | set('permute transpose t expand roll flip'.split())
PRODUCTS = {'mm', 'bmm', 'mv', 'convolution'}
WITH_BIAS = {'addmm', 'baddbmm', 'addbmm', 'addmv'}
NORMS = {'native_layer_norm', 'native_group_norm'}
MOST_WAYS, DEEPEST = 4, 60

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


class Factors:
    """The operators of a trace, and the values between them."""

    def __init__(self, trace: Trace, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.trace, self.shapes = trace, shapes
        self.made: list[dict[Value, int]] = [
            {value: i for i, call in enumerate(calls) for value in call.gives if value is not None}
            for calls in trace.calls
        ]
        self.users: list[dict[Value, list[int]]] = []
        for calls in trace.calls:
            users: dict[Value, list[int]] = {}
            for i, call in enumerate(calls):
                for value in dict.fromkeys(call.reads):
                    users.setdefault(value, []).append(i)
            self.users.append(users)

    # -- where a factor could be undone
    def ways(self, mode: int, index: int, place: int) -> Iterator[Rows]:
        """Parameters that scale what call ``index`` multiplies in its tensor ``place``, the best to scale first.

        Of a product of two activations the keys: queries may go elsewhere too, into a position bias for one.
        """
        call = self.trace.calls[mode][index]
        if base_name(call) in ('baddbmm', 'addbmm') and place:
            sides = [2, 1]
        else:
            sides = [place]
            other = self._other_side(mode, call)
            if other is not None:
                value, entries = other
                yield from self._rows_of(self._roots(mode, value, entries, 0))
        for k in sides:
            yield from self._rows_of(self._roots(mode, call.reads[k], call.input_axes[k], 0))

    def _other_side(self, mode: int, call: Call) -> tuple[Value, Entries] | None:
        """The right operand of the product that a value becomes the left one of."""
        value = call.gives[0]
        for _ in range(12):
            users = self.users[mode].get(value, [])
            if len(users) != 1:
                return None
            after = self.trace.calls[mode][users[0]]
            name = base_name(after)
            if name == 'bmm' and after.reads[0] == value:
                return after.reads[1], after.input_axes[1]
            if name not in SAME or after.reads[0] != value:
                return None
            value = after.gives[0]
        return None

    def _roots(self, mode: int, value: Value, entries: Entries, depth: int) -> Iterator[list[tuple[str, Entries]]]:
        """Parameters that a value is linear in together, and the ids of which they make; several ways."""
        if isinstance(value, str):
            yield [(value, entries)]
            return
        index = self.made[mode].get(value)
        if index is None or depth > DEEPEST:
            return
        call = self.trace.calls[mode][index]
        name = base_name(call)

        def of(k: int, switch: bool = False) -> Iterator[list[tuple[str, Entries]]]:
            return self._roots(mode, call.reads[k], call.input_axes[k] if switch else entries, depth + 1)

        def together(places: Sequence[int]) -> Iterator[list[tuple[str, Entries]]]:
            for parts in itertools.islice(itertools.product(*map(of, places)), MOST_WAYS):
                yield [root for part in parts for root in part]

        if name == 'whole':
            places = [k for k, argument in enumerate(call.arguments) if argument == 'linear']
            yield from together(places) if places else ()
        elif name in SAME or name == 'div':
            yield from of(0)
        elif name in ('add', 'sub', 'cat', 'stack') and len(call.reads) > 1:
            yield from together(range(len(call.reads)))
        elif name == 'mul':
            yield from itertools.chain(*map(of, range(len(call.reads))))
        elif name in PRODUCTS | WITH_BIAS:
            bias = {'convolution': [2][: len(call.reads) - 2]}.get(name, [0] if name in WITH_BIAS else [])
            first = 1 if name in WITH_BIAS else 0
            for k in (first + 1, first):
                switch = not self._is_parameter(mode, call.reads[k])
                for way in itertools.islice(of(k, switch), MOST_WAYS):
                    for extra in together(bias):
                        yield [*way, *extra]
        elif name in NORMS or 'batch_norm' in name:
            places = [k for k, argument in enumerate(call.arguments) if argument in ('weight', 'bias')]
            yield from together(places) if places else ()

    def _is_parameter(self, mode: int, value: Value) -> bool:
        while not isinstance(value, str):
            index = self.made[mode].get(value)
            if index is None or base_name(self.trace.calls[mode][index]) not in MOVED:
                return False
            value = self.trace.calls[mode][index].reads[0]
        return True

    def _rows_of(self, ways: Iterator[list[tuple[str, Entries]]]) -> Iterator[Rows]:
        for way in itertools.islice(ways, MOST_WAYS):
            if not all(name in self.trace.params for name, _ in way):
                continue
            found = [(name, self._rows(name, entries)) for name, entries in way]
            rows: dict[tuple[str, int], IntArray] = {}
            for name, place in found:
                # Of several biases side by side those of queries or of keys; all of a parameter if none are known.
                dim, places = place or (0, np.arange(self.shapes[name][0]))
                if place or not any(other for _, other in found):
                    rows[name, dim] = np.union1d(rows[name, dim], places) if (name, dim) in rows else places
            yield rows

    def _rows(self, name: str, entries: Entries) -> tuple[int, IntArray] | None:
        """A dimension of a parameter and the positions that carry the elements of a tensor."""
        hits = self._marked(entries)
        lines = enumerate(self.trace.params[name])
        return next(((d, np.flatnonzero(hits[line])) for d, line in lines if hits[line].any()), None)

    def _marked(self, entries: Entries) -> IntArray:
        """(ids,) bool: exact ids tell queries from keys in one weight; a bias has the rows that it is added to."""
        elements = self.trace.elements
        hits = np.zeros(len(elements), dtype=bool)
        if entries:
            hits[elements.wholes(np.concatenate([ids.ravel() for _, ids in entries]))] = True
            for weight, bias in self.trace.biases:
                hits[bias[hits[weight]]] = True
        return hits

    # -- whether it is
    def undone(self, rows: Rows, targets: Collection[tuple[int, int, str]]) -> bool:
        """Dividing ``rows`` by a factor undoes that the numbers at ``targets`` multiply by it, and no more."""
        return all(self._undone(mode, rows, targets) for mode in range(len(self.trace.calls)))

    def _undone(self, mode: int, rows: Rows, targets: Collection[tuple[int, int, str]]) -> bool:
        scaled: dict[Value, float] = {name: -1.0 for name, _ in rows}
        partial: set[Value] = {name for (name, d), places in rows.items() if len(places) < self.shapes[name][d]}
        for index, call in enumerate(self.trace.calls[mode]):
            powers = [scaled.get(value, 0.0) for value in call.reads]
            own = [argument for m, i, argument in targets if (m, i) == (mode, index)]
            if not any(powers) and not own:
                continue
            mixed = any(value in partial for value in call.reads)
            mixed |= base_name(call) == 'cat' and 0.0 in powers
            for argument in own:
                place = multiplied(call, argument)
                if place is None or mixed:
                    return False
                powers[place[0]] += 1.0
            power = _power(call, powers)
            if power is None or (any(value in self.users[mode] for value in call.clobbers)):
                return False
            pieces = base_name(call) in PIECES
            for k, value in enumerate(call.gives if pieces else call.gives[:1]):
                part = self._part(rows, call.axes[k]) if mixed else 'all'
                if part == 'none' and not pieces:
                    return False
                if power and part != 'none':
                    scaled[value] = power
                    if part == 'some':
                        partial.add(value)
        return not any(value in scaled for value in self.trace.results[mode])

    def _part(self, rows: Rows, entries: Entries) -> str:
        """Whether what a tensor carries is made by all of some rows, by none, or by some and by others."""
        hits = self._marked(entries)
        chosen = other = 0
        for (name, d), places in rows.items():
            line = hits[self.trace.params[name][d]]
            chosen += int(line[places].sum())
            other += int(line.sum()) - int(line[places].sum())
        return 'some' if chosen and other else 'all' if chosen else 'none'


def _power(call: Call, powers: list[float]) -> float | None:
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
