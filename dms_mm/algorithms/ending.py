"""How a structure came to its targets: which of them binds, and what of the way the search went by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

LEAST, MOST = 0.9, 1.05  # of a target, that a search comes to by itself


@dataclass(frozen=True)
class Ending:
    """What a structure takes of its targets.

    Attributes:
        taken: resource -> what the structure takes, as a share of its target.
        reached: resource -> what a search had come to by itself, as a share of its target; empty where none was.
        full: resource -> the supernet's, as a multiple of the target.
    """

    taken: dict[str, float]
    reached: dict[str, float] = field(default_factory=dict)
    full: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        targets: Mapping[str, float],
        counts: Mapping[str, float],
        reached: Mapping[str, float] | None = None,
        full: Mapping[str, float] | None = None,
    ) -> Ending:
        """From absolute numbers; ``reached`` are shares."""
        taken = {name: counts[name] / goal for name, goal in targets.items()}
        wholes = {name: full[name] / goal for name, goal in targets.items()} if full else {}
        return cls(taken, dict(reached or {}), wholes)

    @property
    def binds(self) -> str:
        """The resource of which least is left."""
        return max(self.taken, key=lambda name: self.taken[name])

    @property
    def scaled(self) -> bool:
        """Whether the search had not come to its targets by itself, and was scaled to them."""
        return bool(self.reached) and not LEAST <= max(self.reached.values()) <= MOST

    def way(self) -> dict[str, float]:
        """Resource -> how much of the way from the supernet to its target the search went by itself, as a share of its
        logarithm; over 1 beyond the target. The rest was scaled. Without targets that the supernet meets itself."""
        far = {name: math.log(full) for name, full in self.full.items() if name in self.reached and full > 1}
        return {name: 1 - math.log(max(self.reached[name], 1e-12)) / length for name, length in far.items()}

    def binding(self, begin: str) -> str:
        """A line that says what the structure takes of every target, and which one binds."""
        each = ', '.join(f'{share:.2%} of {name}' for name, share in self.taken.items())
        line = f'{begin}: {each}'
        return f'{line}; {self.binds} binds' if len(self.taken) > 1 else line

    def __str__(self) -> str:
        lines = [self.binding('the structure takes of its targets')]
        if self.scaled:
            came = ', '.join(f'{name} {share:.3g} times its target' for name, share in self.reached.items())
            went = ', '.join(f'{share:.0%} for {name}' for name, share in self.way().items())
            lines.append(
                f'the search itself had come to {came}: of the way it went {went or "nothing"}, the rest was scaled. '
                'Rule, rate and length do not suit this target'
            )
        return '\n'.join(lines)

    def as_dict(self) -> dict[str, object]:
        """As plain numbers, for a JSON file."""
        return dict(binds=self.binds, taken=self.taken, reached=self.reached, way=self.way(), scaled=self.scaled)
