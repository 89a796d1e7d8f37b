"""From when to when each piece of memory is held, in a forward for inference and in a training step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..tracing import Lifetimes, Operation, Piece, saved_by

# Views of all of a tensor; the gradient of a view of less is copied into one of the whole.
WHOLE = frozenset(
    f'aten::{name}'
    for name in (
        'view', '_unsafe_view', '_reshape_alias', 'reshape', 'transpose', 'permute', 't', 'unsqueeze', 'squeeze',
        'expand', 'alias', 'detach', 'lift_fresh',
    )
)  # fmt: skip
PASSING = ('aten::add', 'aten::add_')  # their backward gives on the gradient that it gets


@dataclass(frozen=True)
class Interval:
    """A piece, or the gradient of the parameter of a name, is held in the operators ``born`` to ``dies``.

    Attributes:
        instead: a module of which it is the output. Without the module its input is held in its place.
    """

    of: Piece | str
    born: int
    dies: int
    instead: str | None = None


def inference(lives: Lifetimes, blocks: Collection[str]) -> list[Interval]:
    """What a forward without gradients holds, beside the model and its inputs; ``blocks`` may go."""
    end = len(lives.steps)
    until = [end if p.dies is None else p.dies for p in lives.pieces]
    given: dict[str, int] = {}
    for piece, dies in zip(lives.pieces, until):
        given.update(dict.fromkeys(piece.enters.intersection(blocks), dies))
    found = []
    for piece, dies in zip(lives.pieces, until):
        path = next((path for path in sorted(piece.leaves) if path in given), None)
        # A block's input is held for as long as the block runs; then its output is, or else the input itself.
        ends = dies if path is None else min(dies, given[path])
        parts = [Interval(piece, piece.born, ends), Interval(piece, ends + 1, dies, path)]
        found += [x for x in parts if x.born <= x.dies and not piece.inner]
    return found


def training_step(lives: Lifetimes) -> list[Interval]:
    """What a forward and a backward hold beside the model and its inputs.

    What autograd keeps stays until the backward of the operator that asked for it, a gradient from the last reader of
    its tensor to its maker, and those of parameters stay.
    """
    end = 2 * len(lives.steps) + 1
    until = {k: len(lives.steps) if p.dies is None else p.dies for k, p in enumerate(lives.pieces)}
    readers: dict[int | str, list[int]] = {}
    copies: list[Interval] = []
    for number, step in enumerate(lives.steps, 1):
        if not step.learnt:
            continue
        for place in dict.fromkeys(step.reads):
            readers.setdefault(place, []).append(number)
        saved = saved_by(step.kind, len(step.reads), len(step.gives))
        for place, kept in (*zip(step.reads, saved.reads), *zip(step.gives, saved.gives)):
            if kept and isinstance(place, int) and place >= 0:
                until[place] = max(until[place], end - number)
        for place in (step.reads[k] for k in saved.copies):
            if isinstance(place, int) and place >= 0:
                copies.append(Interval(lives.pieces[place], number, end - number))
    found = copies + [Interval(p, p.born, until[k]) for k, p in enumerate(lives.pieces) if not p.inner]
    for place, numbers in readers.items():
        if place in lives.parameters:
            found.append(Interval(str(place), end - numbers[-1], end))
    return found + _gradients(lives, readers, end)


def _gradients(lives: Lifetimes, readers: dict[int | str, list[int]], end: int) -> list[Interval]:
    """Of what the forward made; ``readers`` are the operators whose backward gives one."""
    born: dict[int, int] = {}
    dies: dict[int, int] = {}
    passed: dict[int, int] = {}  # piece whose gradient is that of another
    for k, piece in enumerate(lives.pieces):
        if not piece.learnt or piece.inner:
            continue
        mine = readers.get(k, [])
        born[k], dies[k] = end - (mine[-1] if mine else len(lives.steps)), end - piece.born
        last = lives.steps[mine[-1] - 1] if mine else None
        if last is None or last.kind.name not in PASSING:
            continue
        other = last.gives[0]
        if isinstance(other, int) and other >= 0 and other != k and lives.pieces[other].shape == piece.shape:
            if len(mine) > 1:
                born[k] = end - mine[-2]
            else:
                passed[k] = other
    for k, other in sorted(passed.items(), key=lambda item: -item[0]):
        while other in passed:
            other = passed[other]
        if other in dies:
            dies[other] = max(dies[other], dies[k])
            del born[k]
    again = [
        Interval(lives.pieces[place], end - number, end - number)
        for number, step in enumerate(lives.steps, 1)
        for place in dict.fromkeys(step.gives if step.learnt else ())
        if isinstance(place, int) and place in step.reads
        for _ in range(_copies(step))
    ]
    return again + [Interval(lives.pieces[k], born[k], dies[k]) for k in born]


def _copies(step: Operation) -> int:
    """How many gradients more there are of a tensor in the backward of what writes to it or gives a view of it: one is
    before that and one after; that of a view is copied, with what it is part of."""
    if step.kind.name in PASSING or step.kind.name in WHOLE:
        return 0
    return 3 if step.in_view else 1
