"""Whether a factor in a forward can be undone in parameters: followed along the operators of a trace.

Some parameters are divided by a factor, and some operators multiply by it. Every value then is its own times a power of
the factor, as long as operators are homogeneous in what is scaled; the change is sound if that power is zero wherever
an operator is not, and in what the model returns.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from ..tracing import Call, Entries, IntArray, Trace, Value
from .plan import Rows
from .powers import MOVED, NORMS, PIECES, PRODUCTS, SAME, WITH_BIAS, base_name, multiplied, power_of

MOST_WAYS, DEEPEST = 4, 60


class Factors:
    """The operators of a trace, and the values between them."""

    def __init__(self, trace: Trace, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.trace, self.shapes = trace, shapes
        self._marks: dict[tuple[int, ...], tuple[Entries, IntArray]] = {}  # by the identities of arrays, which are held
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
        for side in self._sides(mode, index, place):
            yield from side

    def both(self, targets: Collection[tuple[int, int, str]]) -> Rows:
        """Parameters on both sides of the products that targets are about: each may take half of a factor, where
        several products have sides in common."""
        rows: dict[tuple[str, int], IntArray] = {}
        for mode, index, argument in targets:
            place = multiplied(self.trace.calls[mode][index], argument)
            for side in self._sides(mode, index, place[0]) if place is not None else ():
                for key, places in next(side, {}).items():
                    rows[key] = np.union1d(rows[key], places) if key in rows else places
        return rows

    def _sides(self, mode: int, index: int, place: int) -> list[Iterator[Rows]]:
        call = self.trace.calls[mode][index]
        value, entries = call.reads[place], call.input_axes[place]
        product = base_name(call)
        if product in ('baddbmm', 'addbmm') and place:
            return [self._rows_of(self._roots(mode, call.reads[k], call.input_axes[k], 0)) for k in (2, 1)]
        own = self._rows_of(self._roots(mode, value, entries, 0))
        source = self._product_of(mode, value)
        if source is not None:
            # The right side comes first, and its rows with it.
            left = self._rows_of(self._roots(mode, source.reads[0], source.input_axes[0], 0))
            return [own, left]
        other = self._other_side(mode, call)
        if other is None:
            return [own]
        right, value, entries = other
        theirs = self._rows_of(self._roots(mode, value, entries, 0))
        return [theirs, own] if right else [own, theirs]

    def _product_of(self, mode: int, value: Value) -> Call | None:
        """The product of two activations that a value is, seen otherwise."""
        for _ in range(12):
            index = self.made[mode].get(value)
            if index is None:
                return None
            call = self.trace.calls[mode][index]
            if base_name(call) == 'bmm':
                return call
            if base_name(call) not in SAME:
                return None
            value = call.reads[0]
        return None

    def _other_side(self, mode: int, call: Call) -> tuple[bool, Value, Entries] | None:
        """The other operand of the product that a value goes into, and whether it is the right one."""
        value = call.gives[0]
        for _ in range(12):
            users = self.users[mode].get(value, [])
            if len(users) != 1:
                return None
            after = self.trace.calls[mode][users[0]]
            if base_name(after) == 'bmm' and value in after.reads:
                k = 1 - after.reads.index(value)
                return k == 1, after.reads[k], after.input_axes[k]
            if base_name(after) not in SAME or after.reads[0] != value:
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
        key = tuple(id(ids) for _, ids in entries)
        if key in self._marks:
            return self._marks[key][1]
        hits = np.zeros(len(elements), dtype=bool)
        self._marks[key] = list(entries), hits
        if entries:
            hits[elements.wholes(np.concatenate([ids.ravel() for _, ids in entries]))] = True
            for weight, bias in self.trace.biases:
                hits[bias[hits[weight]]] = True
        return hits

    # -- whether it is
    def undone(self, rows: Rows, targets: Collection[tuple[int, int, str]], part: float = 1.0) -> bool:
        """Dividing ``rows`` by this part of a factor undoes that the numbers at ``targets`` multiply by it, and no
        more."""
        return bool(rows) and all(self._undone(mode, rows, targets, part) for mode in range(len(self.trace.calls)))

    def _undone(self, mode: int, rows: Rows, targets: Collection[tuple[int, int, str]], share: float) -> bool:
        scaled: dict[Value, float] = {name: -share for name, _ in rows}
        partial: set[Value] = {name for (name, d), places in rows.items() if len(places) < self.shapes[name][d]}
        own_of: dict[int, list[str]] = {}
        for m, i, argument in targets:
            if m == mode:
                own_of.setdefault(i, []).append(argument)
        # In their order, the calls that multiply or read what is scaled: few of all.
        queue = sorted({*own_of, *(i for value in scaled for i in self.users[mode].get(value, ()))})
        while queue:
            index = heapq.heappop(queue)
            while queue and queue[0] == index:
                heapq.heappop(queue)
            call = self.trace.calls[mode][index]
            powers = [scaled.get(value, 0.0) for value in call.reads]
            own = own_of.get(index, [])
            if not any(powers) and not own:
                continue
            mixed = any(value in partial for value in call.reads)
            mixed |= base_name(call) == 'cat' and 0.0 in powers
            for argument in own:
                place = multiplied(call, argument)
                if place is None or mixed:
                    return False
                powers[place[0]] += 1.0
            power = power_of(call, powers)
            if power is None or (any(value in self.users[mode] for value in call.clobbers)):
                return False
            pieces = base_name(call) in PIECES
            for k, value in enumerate(call.gives if pieces else call.gives[:1]):
                part = self._part(rows, call.axes[k]) if mixed else 'all'
                if part == 'none' and not pieces:
                    return False
                if power and part != 'none':
                    scaled[value] = power
                    for user in self.users[mode].get(value, ()):
                        if user > index:
                            heapq.heappush(queue, user)
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
