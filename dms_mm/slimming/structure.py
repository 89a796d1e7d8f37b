"""The structure file: which slices, blocks and attributes make a supernet slim (DESIGN 3.5)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 'dms_mm.structure'
VERSION = 1


class StructureError(ValueError):
    """A structure file is unreadable, foreign, or made for another model."""


def to_ranges(positions: np.ndarray) -> str:
    """Sorted positions as text: ``[0, 1, 2, 7]`` -> ``'0-2,7'``."""
    positions = np.asarray(positions)
    if not len(positions):
        return ''
    cuts = np.flatnonzero(np.diff(positions) != 1) + 1
    runs = np.split(positions, cuts)
    return ','.join(str(r[0]) if len(r) == 1 else f'{r[0]}-{r[-1]}' for r in runs)


def from_ranges(text: str) -> np.ndarray:
    """The inverse of :func:`to_ranges`, int64."""
    parts = []
    for run in text.split(',') if text else []:
        first, _, last = run.partition('-')
        parts.append(np.arange(int(first), int(last or first) + 1))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


@dataclass
class Structure:
    """A hard structure of one architecture.

    Attributes:
        shapes: parameter or buffer -> its shape in the supernet, for every one that shrinks.
        slices: the same names -> dimension -> kept positions, as ranges.
        scales: parameter -> [dimension, positions in the supernet, factor]: what a smaller head changes in the scale of
            its attention is taken back in the queries' and keys' weights.
        folds: parameter -> [dimension, positions, others that are added to them]: the weights of what a removed block
            would copy into a concatenation.
        attributes: module -> attribute -> value in the slim model.
        removed: blocks that become ``nn.Identity``.
        dropped: those of them that are taken out of their ``nn.ModuleList`` instead; other names in it stay.
        renumber: containers of blocks close the gaps that removed ones leave.
        outputs: those of them that take more than one argument or return a tuple -> its length, 0 for a tensor.
        units: name -> kind, size, kept positions (ranges of elements).
        resources, supernet: counts of the slim model and of the supernet, per sample.
        parameters: number of named parameters of the supernet, a first check of the architecture.
    """

    shapes: dict[str, list[int]] = field(default_factory=dict)
    slices: dict[str, dict[str, str]] = field(default_factory=dict)
    scales: dict[str, list[list[Any]]] = field(default_factory=dict)
    folds: dict[str, list[list[Any]]] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    renumber: bool = False
    outputs: dict[str, int] = field(default_factory=dict)
    units: dict[str, dict[str, Any]] = field(default_factory=dict)
    resources: dict[str, float] = field(default_factory=dict)
    supernet: dict[str, float] = field(default_factory=dict)
    parameters: int = 0

    def kept(self, unit: str) -> int:
        return len(from_ranges(self.units[unit]['keep']))

    def strangled(self, share: float = 0.05) -> list[str]:
        """Widths that keep less than ``share`` of their channels, outside of removed blocks: a search gone astray."""
        return [
            name
            for name, unit in self.units.items()
            if unit['kind'] != 'depth' and self.kept(name) < share * unit['size'] and not self.is_gone(name)
        ]

    def is_gone(self, unit: str) -> bool:
        """The unit lies inside a removed block, so its widths no longer matter."""
        return any(unit.startswith(block + '.') for block in self.removed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON under a temporary name, then rename."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {'format': FORMAT, 'version': VERSION, **self.__dict__}
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
        temporary.write_text(json.dumps(content, indent=1) + '\n')
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Structure:
        """Read a structure file.

        Raises:
            StructureError: the file is missing, truncated, of another format or of a newer version.
        """
        try:
            content = json.loads(Path(path).read_text())
        except OSError as error:
            raise StructureError(f'structure file {path} cannot be read: {error.strerror}') from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise StructureError(f'structure file {path} is damaged or not JSON: {error}') from error
        if not isinstance(content, dict) or content.pop('format', None) != FORMAT:
            raise StructureError(f'{path} is not a dms_mm structure file')
        version = content.pop('version', None)
        if version != VERSION:
            raise StructureError(f'structure file {path} has version {version}; this dms_mm reads {VERSION}')
        unknown = set(content) - set(cls.__dataclass_fields__)
        if unknown:
            raise StructureError(f'structure file {path} has an unknown field {sorted(unknown)[0]!r}')
        return cls(**content)
