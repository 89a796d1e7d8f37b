"""What is known of a tensor's values: what it scales with, what it is a sum of, and between which bounds it lies.

A *joint* is a tuple of origins: scaled by one factor together, they scale the tensor by it (a sum has several).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch._subclasses.fake_tensor import FakeTensor

from .arrangement import Arrangement


@dataclass(eq=False, frozen=True)
class Origin:
    """Something that a depth mask may scale: a parameter, a module's output, or one of several ``ways`` (joints).

    ``zero`` is a joint of which is known only that without it the tensor is zero.
    """

    parameter: str = ''
    module: str = ''
    ways: tuple[Joint, ...] = ()
    zero: Joint = ()


Joint = tuple[Origin, ...]


class Sum(NamedTuple):
    """A module's input, rearranged, plus branches; ``low`` and ``high`` are the bounds of that input."""

    arrangement: Arrangement
    branches: tuple[Joint, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Flow:
    """What is known of the values of one tensor.

    Attributes:
        data: they depend on the model's input.
        joint: what they scale with; empty if nothing is known.
        low, high: their bounds.
        sums: modules whose input they contain as it is.
        version: the tensor's, when this was found; after a change in place, through a view perhaps, it no longer holds.
    """

    data: bool = True
    joint: Joint = ()
    low: float = -math.inf
    high: float = math.inf
    sums: dict[str, Sum] = field(default_factory=dict)
    version: int = 0


UNKNOWN = Flow()
CONSTANT = Flow(data=False)


def flow_of(x: Any) -> Flow:
    """What is known of a tensor; of one that no operator made only whether it comes with the model or the input."""
    flow: Flow | None = getattr(x, '_dms_flow', None)
    if flow is None:
        return UNKNOWN if isinstance(x, FakeTensor) else CONSTANT
    return flow if flow.version == x._version else UNKNOWN


def scales_with(out: Any, parameters: Sequence[str | None]) -> None:
    """Note that a whole's output is linear in these parameters together; None is one that is not the model's own."""
    if parameters and all(parameters):
        out._dms_flow = Flow(joint=tuple(Origin(parameter=p or '') for p in parameters), version=out._version)
