"""Units of a search space: what can be kept or removed together, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ..registry import UNITS


@dataclass(kw_only=True)
class MutableUnit:
    """A group of ``size`` elements ranked by one top-k.

    Attributes:
        name: unique in the space; the module that produces the elements, or the stage of the blocks.
        size: number of elements.
        min_keep, max_keep: fewest and most elements kept; at most all of them where the latter is None.
        round_to: kept counts are multiples of it, or the size.
        tie: units of one tie have equal sizes and keep equally many elements.
        index, start: place of the unit and of its first element in the bank.
    """

    kind: ClassVar[str] = ''
    name: str
    size: int
    min_keep: int = 1
    max_keep: int | None = None
    round_to: int = 1
    tie: str | None = None
    index: int = -1
    start: int = -1

    @property
    def temperature(self) -> float:
        """Lambda of eq. 3."""
        return float(self.size)

    def bounds(self) -> tuple[int, int]:
        return self.min_keep, self.size if self.max_keep is None else min(self.size, self.max_keep)

    @property
    def grid(self) -> str:
        """What the unit may keep, for the report; nothing where that is every count."""
        (low, high), usual = self.bounds(), min(self.size, int(self.kind != 'depth'))
        told = [f'{low} to {high}'] if (low, high) != (usual, self.size) or self.round_to > 1 else []
        told += [f'by {self.round_to}'] * (self.round_to > 1)
        told += [f'tied: {self.tie}'] * (self.tie is not None)
        return f'  ({", ".join(told)})' if told else ''

    def check(self, count: int) -> None:
        """Raises: ValueError for a count that the unit must not keep."""
        low, high = self.bounds()
        if not low <= count <= high or (count != high and (count - low) % self.round_to):
            steps = f' in steps of {self.round_to}' if self.round_to > 1 else ''
            raise ValueError(f'unit {self.name!r} keeps {low} to {high} of its elements{steps}, not {count}')


@UNITS.register_module(name=['ChannelUnit', 'channel'])
@dataclass(kw_only=True)
class ChannelUnit(MutableUnit):
    """Channels tied by residual adds, depthwise and grouped convolutions; ``roots`` are their element ids."""

    kind: ClassVar[str] = 'channel'
    roots: list[np.ndarray] = field(default_factory=list, repr=False)


@UNITS.register_module(name=['DepthUnit', 'depth'])
@dataclass(kw_only=True)
class DepthUnit(MutableUnit):
    """Consecutive residual blocks of a stage, one element a block.

    Attributes:
        blocks: their modules.
        carriers: for each block the ends of what is added to its input (modules or parameters, relative to the block)
            -> the parameters that this end is linear in and that take the mask together; none where the output of
            the module is multiplied.
    """

    kind: ClassVar[str] = 'depth'
    min_keep: int = 0
    blocks: list[str] = field(default_factory=list)
    carriers: list[dict[str, tuple[str, ...]]] = field(default_factory=list, repr=False)

    @property
    def temperature(self) -> float:
        return 4.0 * max(self.size, 2)  # 8 for a single block, as the authors' code has it


@UNITS.register_module(name=['HeadUnit', 'head'])
@dataclass(kw_only=True)
class HeadUnit(ChannelUnit):
    """Heads of an attention (key and value groups where queries are grouped)."""

    kind: ClassVar[str] = 'head'

    @property
    def temperature(self) -> float:
        return 4.0 * self.size


@UNITS.register_module(name=['ExpertUnit', 'expert'])
@dataclass(kw_only=True)
class ExpertUnit(ChannelUnit):
    """What a router chooses among: the experts of a mixture.

    Attributes:
        blocks: for each of them the entries of lists that run for it; none where they are parts of parameters.
    """

    kind: ClassVar[str] = 'expert'
    blocks: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def temperature(self) -> float:
        return 4.0 * self.size


@UNITS.register_module(name=['HeadDimUnit', 'head_dim'])
@dataclass(kw_only=True)
class HeadDimUnit(ChannelUnit):
    """Positions inside every head: of queries and keys, or of values."""

    kind: ClassVar[str] = 'head_dim'
