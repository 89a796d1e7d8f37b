"""Operator calls written down while a function runs, to be run again on other tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Slot:
    """Stands for a tensor among the arguments of a step."""

    index: int

    def __repr__(self) -> str:
        return f'#{self.index}'


def replaced(tree: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """A tree of tuples, lists and dicts with ``change(x)`` for every ``x`` of a kind."""
    if isinstance(tree, kind):
        return change(tree)
    if isinstance(tree, (list, tuple)):
        return [replaced(branch, kind, change) for branch in tree]
    if isinstance(tree, dict):
        return {key: replaced(branch, kind, change) for key, branch in tree.items()}
    return tree


def found(tree: Any, kind: type) -> list[Any]:
    """Everything of a kind in a tree, in its order."""
    if isinstance(tree, kind):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [x for branch in tree for x in found(branch, kind)] if isinstance(tree, (tuple, list)) else []


@dataclass
class Step:
    """One operator call: ``args`` and ``kwargs`` hold slots where tensors were, ``out`` the slots of its results."""

    func: Any
    args: Any
    kwargs: Any
    out: list[int]

    @property
    def name(self) -> str:
        return str(self.func._schema.name)

    @property
    def takes(self) -> list[int]:
        """Slots of the arguments."""
        return [slot.index for slot in found((self.args, self.kwargs), Slot)]

    @property
    def changes(self) -> list[int]:
        """Slots of the results, and of the arguments that the operator writes to."""
        written: list[int] = []
        for k, argument in enumerate(self.func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = self.args[k] if k < len(self.args) else self.kwargs.get(argument.name)
                written += [slot.index for slot in found(given, Slot)]
        return list(dict.fromkeys([*self.out, *written]))

    def __str__(self) -> str:
        given = [*map(str, self.args), *(f'{key}={value}' for key, value in self.kwargs.items())]
        return f'{self.name.partition("::")[2]}({", ".join(given)})'


@dataclass
class Tape:
    """``inputs`` are the tensors that no step made, as they were before the first step; they take the first slots.

    ``function`` made the tape of its inputs, if it took all of them: it may compute sizes from theirs.
    """

    inputs: list[Tensor]
    steps: list[Step]
    function: Callable[..., Any] | None = None

    @property
    def names(self) -> set[str]:
        return {step.name for step in self.steps}

    def until(self, last: int) -> Tape:
        """The steps up to ``last``, -1 for none."""
        return Tape(self.inputs, self.steps[: last + 1])

    def __str__(self) -> str:
        return '; '.join(map(str, self.steps))


class _Recorder(TorchDispatchMode):
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.slots: dict[int, int] = {}
        self.held: list[Tensor] = []  # else another tensor could take the identity of a freed one
        self.before: dict[int, Tensor] = {}  # slot of an input -> what was in it
        self.steps: list[Step] = []
        for x in inputs:
            self.taken(x)

    def made(self, x: Tensor) -> int:
        if id(x) not in self.slots:
            self.slots[id(x)] = len(self.held)
            self.held.append(x)
        return self.slots[id(x)]

    def taken(self, x: Tensor) -> Slot:
        if id(x) not in self.slots:
            self.before[len(self.held)] = x.detach().clone()
        return Slot(self.made(x))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        step = Step(func, replaced(args, Tensor, self.taken), replaced(kwargs, Tensor, self.taken), [])
        out = func(*args, **kwargs)
        step.out = [self.made(x) for x in found(out, Tensor)]
        self.steps.append(step)
        return out


class NotOnTapeError(ValueError):
    """A function whose run depends on numbers in tensors."""


def record(function: Callable[..., Any], inputs: Sequence[Tensor]) -> Tape:
    """The operators that ``function(*inputs)`` calls; ``inputs`` may be written to."""
    recorder = _Recorder(inputs)
    with torch.no_grad(), recorder:
        function(*inputs)
    if any(step.name == 'aten::_local_scalar_dense' for step in recorder.steps):
        raise NotOnTapeError('its operators depend on numbers in its input')
    # Inputs first: slots are numbered anew.
    order = [*recorder.before, *(k for k in range(len(recorder.held)) if k not in recorder.before)]
    place = {old: new for new, old in enumerate(order)}
    steps = [
        Step(
            step.func,
            replaced(step.args, Slot, lambda slot: Slot(place[slot.index])),
            replaced(step.kwargs, Slot, lambda slot: Slot(place[slot.index])),
            [place[k] for k in step.out],
        )
        for step in recorder.steps
    ]
    own = function if len(recorder.before) == len(inputs) else None
    return Tape(list(recorder.before.values()), steps, own)


Restate = Callable[[int, Step, Any, Any], tuple[Any, Any]]  # step ``k`` and its arguments -> what it gets
After = Callable[[int, Step, dict[int, Tensor]], None]  # step ``k``, and the tensors of the slots that it changed


def replay(tape: Tape, inputs: Sequence[Tensor], restate: Restate | None = None, after: After | None = None) -> None:
    """Run the steps on other ``inputs``."""
    slots = dict(enumerate(inputs))
    for k, step in enumerate(tape.steps):
        args = replaced(step.args, Slot, lambda slot: slots[slot.index])
        kwargs = replaced(step.kwargs, Slot, lambda slot: slots[slot.index])
        if restate is not None:
            args, kwargs = restate(k, step, args, kwargs)
        out = step.func(*args, **kwargs)
        slots.update(zip(step.out, found(out, Tensor)))
        if after is not None:
            after(k, step, {slot: slots[slot] for slot in step.changes})


class _Rerun(TorchDispatchMode):
    def __init__(self, tape: Tape, restate: Restate, after: After) -> None:
        super().__init__()
        self.tape, self.restate, self.after = tape, restate, after
        self.at = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:
            return func(*args, **kwargs)
        k, self.at = self.at, self.at + 1
        step = self.tape.steps[k] if k < len(self.tape.steps) else None
        if step is None or step.func is not func:
            raise NotOnTapeError(f'{func} runs instead of {step}')
        args, kwargs = self.restate(k, step, args, kwargs)
        taken = dict(zip(step.takes, found((args, kwargs), Tensor)))
        out = func(*args, **kwargs)
        taken.update(zip(step.out, found(out, Tensor)))
        self.after(k, step, {slot: taken[slot] for slot in step.changes})
        return out


def rerun(tape: Tape, inputs: Sequence[Tensor], restate: Restate, after: After) -> None:
    """As :func:`replay`, by the function of the tape; it must call the same operators."""
    assert tape.function is not None
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _Rerun(tape, restate, after):
        tape.function(*inputs)


def alone(tape: Tape, name: str) -> Tape:
    """The first step of an operator as a tape of its own, on what it gets there."""
    k = next(k for k, step in enumerate(tape.steps) if step.name == name)
    step = tape.steps[k]
    taken: dict[int, Tensor] = {}

    def look(at: int, step: Step, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if at == k:
            given = found((args, kwargs), Tensor)
            taken.update((slot, x.detach().clone()) for slot, x in zip(step.takes, given))
        return args, kwargs

    with torch.no_grad():
        replay(tape.until(k), [x.clone() for x in tape.inputs], look)
    place = {old: new for new, old in enumerate([*taken, *(slot for slot in step.out if slot not in taken)])}
    args = replaced(step.args, Slot, lambda slot: Slot(place[slot.index]))
    kwargs = replaced(step.kwargs, Slot, lambda slot: Slot(place[slot.index]))
    return Tape(list(taken.values()), [Step(step.func, args, kwargs, [place[slot] for slot in step.out])])
