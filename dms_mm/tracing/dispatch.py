"""The dispatch mode under which a forward runs: it asks the rules what every operator does to element ids."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..registry import OPERATORS
from .decisions import DECIDING, Decisions, by_positions, without_data
from .findings import Call, Entries, Trace
from .flow import flow_of
from .ledger import Ledger, tensors_of
from .named import follow_names, follow_weighed, name_hits, names_of
from .numbers import Known, arguments_of, made_of_numbers, numbers_of, start_of
from .recorder import Recorder
from .residual import follow
from .rules.constants import CONSTANTS
from .rules.parts import SHAPED, parts_of
from .rules.pointwise import MEANS, pointwise
from .rules.products import COUNTED
from .values import Values


class TraceError(RuntimeError):
    """The model could not be run on fake tensors."""


# Operators whose rules are asked although no input carries elements: of what is new, and of copies of one position.
MADE = {*CONSTANTS, 'aten::expand'}


class Tracer(TorchDispatchMode):
    """Applies the registered rules to every operator call, and keeps the list of them.

    Attributes:
        ledger: what the rules write to; its axes are on the fake tensors themselves.
        calls: the operators met.
        on_call: is told every operator call instead, and may end the forward by an exception.
        suspended: how many modules deep inside of a whole the forward is; its operators are not looked at.
        known: module -> what it is as a whole, found before this forward.
        lives: writes down when memory is asked for and given back, in forwards whose elements are followed.
        decisions: what the forward decides by its data, to be recorded or followed.
    """

    def __init__(
        self,
        trace: Trace,
        record_costs: bool,
        on_call: Callable[[Call], None] | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.ledger = Ledger(trace, record_costs)
        self.calls: list[Call] = []
        self.on_call = on_call
        self.suspended = 0
        self.known = known or {}
        self.decisions = Decisions()
        self.numbers = Known()
        self.values = Values()
        self.lives: Recorder | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        parts = parts_of(func)
        if parts is not None:
            with self:
                return parts(*args, **kwargs)
        name = func._schema.name
        positions = self._by_positions(args[1]) if name == 'aten::index' else None
        if positions is not None:
            with self:
                return func(args[0], positions)
        if self.decisions.recording:
            out = func(*args, **kwargs)
            if name in DECIDING:
                self.decisions.note(self.ledger.where(), name, out)
            return out
        tensors = tensors_of((args, kwargs))
        written = _written(func, args, kwargs)
        # In-place operators change the axes of their own input: look at them first.
        watched = self.on_call is None and not self.suspended
        call = self._before(func, tensors, args, kwargs) if watched else None
        known = self.numbers.value(func, tensors, written, args, kwargs)
        if call is None and self.on_call is not None and not self.suspended:
            # Nothing rides along: the shapes and numbers are all that is asked for.
            call = Call(name, self.ledger.where(), [], start=start_of(func, args))
        if call is not None:
            call.of_numbers = known is not None and all(map(made_of_numbers, tensors))
            call.numbers = {} if call.of_numbers else numbers_of(func, args, kwargs)
        out = self._run(func, name, tensors, known, args, kwargs)
        self.numbers.note(out, known, tensors, written)
        if self.lives is not None and self.suspended:
            self.lives.note(func, args, kwargs, tensors, tensors_of(out), self.ledger.where(), told=False)
        if call is None or self.suspended:
            return out
        if self.on_call is None:
            self._follow(func, call, tensors, written, out, args, kwargs)
            if self.lives is not None:
                self.lives.note(func, args, kwargs, tensors, tensors_of(out), self.ledger.where(), told=True)
        else:
            call.shapes = _shapes(tensors_of(out))
            self.on_call(call)
        return out

    def _run(self, func: Any, name: str, tensors: list[Any], known: Any, args: Any, kwargs: Any) -> Any:
        """The operator's result, or what is known of it where data decide."""
        if name in SHAPED and not any(x.device.type != 'meta' and type(x) is torch.Tensor for x in tensors):
            return SHAPED[name](*args, **kwargs)
        if name not in DECIDING:
            return func(*args, **kwargs)
        decided = self.decisions.next(self.ledger.where(), name)
        decided = known if decided is None else decided
        return func(*args, **kwargs) if decided is None else without_data(decided, tensors[0])

    def _by_positions(self, indices: Any) -> list[Any] | None:
        with self:
            return by_positions(indices)

    def _before(self, func: Any, tensors: list[Any], args: Any, kwargs: Any) -> Call:
        name = func._schema.name
        return Call(
            name,
            self.ledger.where(),
            shapes=[],
            input_shapes=_shapes(tensors),
            input_axes=[list(Ledger.entries(x)) for x in tensors],
            makers=[Ledger.makers(x) for x in tensors],
            start=start_of(func, args),
            arguments=arguments_of(func, args, kwargs),
            reads=[self.values.of(x) for x in tensors],
        )

    def _follow(
        self, func: Any, call: Call, tensors: list[Any], written: list[Any], out: Any, args: Any, kwargs: Any
    ) -> None:
        """Let the rule write what becomes of the ids, and complete the call."""
        sources = [name for x in tensors if (name := self.ledger.source(x))]  # an operator in place has none afterwards
        looked_at = any(call.input_axes) or call.name in MADE or call.name in COUNTED
        if looked_at or any(map(Ledger.free, tensors)) or (call.name in MEANS and Ledger.summed(tensors[0])):
            try:
                self._apply(func, call.name, out, args, kwargs)
            except (TypeError, IndexError, ValueError, AttributeError) as error:
                raise TraceError(f'rule of {call.name} failed in {call.module!r}: {error!r}') from error
            for x, before in zip(tensors, call.makers):
                if any(x is y for y in written):
                    self.ledger.overwrite(x, before, any(x is y for y in tensors_of(out)))
        results = tensors_of(out)
        if any(names_of(x) is not None for x in tensors):
            follow_names(self.ledger, call.name.partition('::')[2].removesuffix('_'), out, args, kwargs)
        follow_weighed(self.ledger, out, tensors)
        self.ledger.use(tensors, results, sources)
        follow(self.ledger, func, out, tensors, args, kwargs)
        call.shapes = _shapes(results)
        call.axes = [list(Ledger.entries(x)) for x in results]
        call.free = [Ledger.free(x) for x in results]
        call.gives, call.clobbers = self.values.made(results, written)
        self.calls.append(call)

    def note_whole(self, path: str, tensors: list[Any], results: list[Any]) -> None:
        """A module was traced as one operator: ``results`` came of ``tensors``, linear in the parameters it says."""
        linear = {o.parameter for x in results[:1] for o in flow_of(x).joint}
        reads = [self.values.of(x) for x in tensors]
        call = Call('whole', path, shapes=[], reads=reads)
        call.arguments = ['linear' if value in linear else 'other' for value in reads]
        call.gives, _ = self.values.made(results, [])
        self.calls.append(call)
        if self.lives is not None:
            self.lives.whole([*results, *tensors])

    def _apply(self, func: Any, name: str, out: Any, args: Any, kwargs: Any) -> None:
        # Where the result is written to is no argument of a rule.
        targets = {a.name for a in func._schema.arguments if a.is_out}
        kwargs = {key: value for key, value in kwargs.items() if key not in targets} if targets else kwargs
        # Registry.get walks up to parents and locations: too slow for every call.
        handler = OPERATORS.module_dict.get(name)
        if handler is None and torch.Tag.pointwise in func.tags:
            handler = pointwise
        if handler is pointwise:
            pointwise(self.ledger, out, *args, operator=name.partition('::')[2], **kwargs)
        elif handler is not None:
            handler(self.ledger, out, *args, **kwargs)
        elif tensors_of(out) and not (name == 'aten::nonzero' and name_hits(args[0], out)):
            touched: list[Entries] = [e for x in tensors_of((args, kwargs)) if (e := Ledger.entries(x))]
            if touched:
                self.ledger.trace.unknown.setdefault(name, self.ledger.where())
            for entries in touched:
                self.ledger.freeze(entries, f'no rule for operator {name}')


@functools.cache
def _writes(func: Any) -> list[tuple[int, str]]:
    """Place and name of the arguments that an operator writes to."""
    arguments = func._schema.arguments
    return [(k, a.name) for k, a in enumerate(arguments) if a.alias_info is not None and a.alias_info.is_write]


def _written(func: Any, args: Any, kwargs: Any) -> list[Any]:
    given = [args[k] if k < len(args) else kwargs.get(name) for k, name in _writes(func)]
    return tensors_of(given)


def _shapes(tensors: list[Any]) -> list[tuple[int, ...]]:
    return [tuple(int(s) for s in x.shape) for x in tensors]
