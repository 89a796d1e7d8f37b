"""When a forward asks for memory, and when the last tensor that refers to it is gone: what a peak is made of.

References die on fake tensors when they would on real ones, as the same Python runs. What autograd would keep
besides is told by the operators (:mod:`.saved`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from .findings import Entries


@dataclass(eq=False)
class Piece:
    """Memory of one storage.

    Attributes:
        module: where it is made.
        entries: elements of the tensor that it was made for, which has ``shape``.
        itemsize, floating: bytes of a number, and whether that follows the dtype that a model runs in.
        born, dies: the operators, counted from 1, in which it is made and until which it is referred to; None if it is
            to the end.
        varies: it is computed from the inputs, and as large as their batch.
        learnt: a gradient reaches it.
        enters, leaves: modules that it is an input of, and an output of.
        inner: no kernel keeps it, as it is inside of an attention that is traced as products.
    """

    module: str
    shape: tuple[int, ...]
    entries: Entries
    itemsize: int
    floating: bool
    born: int
    dies: int | None = None
    varies: bool = False
    learnt: bool = False
    enters: set[str] = field(default_factory=set)
    leaves: set[str] = field(default_factory=set)
    inner: bool = False


@dataclass(frozen=True, eq=False)
class Blank:
    """A tensor among an operator's arguments, without data."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    learnt: bool


@dataclass(eq=False)
class Kind:
    """An operator with arguments of one kind, and what it is called with the first time: tensors are blank.

    Attributes:
        name, overload: ``'aten::add'`` and ``'Tensor'``.
        writes: it writes to one of its arguments.
    """

    name: str
    overload: str = ''
    writes: bool = False
    args: Any = ()
    kwargs: Any = None


@dataclass(eq=False)
class Operation:
    """One operator.

    Attributes:
        reads: numbers of pieces, or names of parameters, of the tensors among its arguments.
        gives: the same of its results, those that it writes to among them.
        learnt: a backward goes through it.
        in_view: it writes to a view.
    """

    kind: Kind
    reads: list[int | str]
    gives: list[int | str]
    learnt: bool
    in_view: bool = False


@dataclass(eq=False)
class Attention:
    """One call of an attention that is asked for by name.

    Attributes:
        keys, values: shapes and entries, before heads are repeated for the queries that share them.
        length: positions of a sequence.
    """

    module: str
    keys: tuple[tuple[int, ...], Entries]
    values: tuple[tuple[int, ...], Entries]
    length: int


@dataclass(eq=False)
class Lifetimes:
    """The pieces and operators of one forward, and the names of the model's parameters."""

    parameters: set[str]
    pieces: list[Piece] = field(default_factory=list)
    steps: list[Operation] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)


ATTENTION = Kind('attention')  # whose kernel keeps what it got and what it gives
