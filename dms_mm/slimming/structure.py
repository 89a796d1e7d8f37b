"""The structure file: which slices, blocks and attributes make a supernet slim (DESIGN 3.5)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ranges import count_ranges, shorten, to_ranges
from .schema import FIELDS, FORMAT, REWRITE, VERSION, StructureError, check_fields, check_types
from .skip import Passed

__all__ = ['Structure', 'StructureError', 'to_ranges']

# A file of a model of 70 billion parameters has about 40 MB and 50 thousand names, texts and lists.
MOST_BYTES = 64 << 20
MOST_VALUES = 2_000_000  # quotes and brackets


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
        renumber: containers of blocks close the gaps that removed ones leave, or those that are named: what is chosen
            by number has no gaps.
        outputs: those of them that take more than one argument or return a tuple -> what they pass on; see
            :class:`~.skip.Skip`.
        units: name -> kind, size, kept positions (ranges of elements), and the confidence of a search that measured it,
            from 0 to 1.
        resources, supernet: counts of the slim model and of the supernet, per sample.
        parameters: number of named parameters of the supernet, a first check of the architecture.
        changed: the file was changed after it was written; :func:`~.slim.build_slim` tries the slim model first.
    """

    shapes: dict[str, list[int]] = field(default_factory=dict)
    slices: dict[str, dict[str, str]] = field(default_factory=dict)
    scales: dict[str, list[list[Any]]] = field(default_factory=dict)
    folds: dict[str, list[list[Any]]] = field(default_factory=dict)
    attributes: dict[str, dict[str, Any]] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    renumber: bool | list[str] = False
    outputs: dict[str, Passed] = field(default_factory=dict)
    units: dict[str, dict[str, Any]] = field(default_factory=dict)
    resources: dict[str, float] = field(default_factory=dict)
    supernet: dict[str, float] = field(default_factory=dict)
    parameters: int = 0
    changed: bool = field(default=False, repr=False, compare=False)

    def kept(self, unit: str) -> int:
        return count_ranges(self.units[unit]['keep'], self.units[unit]['size'])

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

    def check(self) -> None:
        """Compare types and bounds with the schema, and the fields with each other.

        Raises:
            StructureError: names the field.
        """
        content = {name: getattr(self, name) for name in FIELDS}
        check_types(content)
        check_fields(content)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write JSON under a temporary name, then rename; with the digest of its content.

        Raises:
            StructureError: the structure is none that :meth:`load` would read.
        """
        self.check()
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {'format': FORMAT, 'version': VERSION, **{name: getattr(self, name) for name in FIELDS}}
        content['digest'] = digest(content)
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
        temporary.write_text(json.dumps(content, indent=1) + '\n')
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], edited: bool = False) -> Structure:
        """Read a structure file, of this version or an older one; version 1 had no digest.

        Args:
            edited: accept a file that was changed after it was written, if it passes all other checks. Its slim model
                has to be tried: :func:`~.slim.build_slim` wants ``example_inputs`` for it.

        Raises:
            StructureError: the file is missing, truncated, of another format or of a newer version; a field has
                another type, is out of bounds or disagrees with another one; the file was changed.
        """
        content = _read(path)
        if content.pop('format', None) != FORMAT:
            raise StructureError(f'format: {path} is not a dms_mm structure file')
        version = content.pop('version', None)
        if type(version) is not int or not 1 <= version <= VERSION:
            newer = type(version) is int and version > VERSION
            raise StructureError(
                f'version: structure file {path} has version {shorten(version)}; this dms_mm reads 1 to {VERSION}'
                + ('. Update dms_mm.' if newer else f'. {REWRITE}')
            )
        told = content.pop('digest', None) if version > 1 else None
        check_types(content)
        missing = [name for name in FIELDS if name not in content]
        if missing and version > 1:
            raise StructureError(f'{missing[0]}: missing in structure file {path}. {REWRITE}')
        structure = cls(**content)
        check_fields(vars(structure))
        structure.changed = version > 1 and told != digest({'format': FORMAT, 'version': version, **content})
        if structure.changed and not edited:
            raise StructureError(
                f'digest: structure file {path} was changed after it was written. {REWRITE} A change that is meant '
                'is accepted by `dms slim --edited`, or by `edited=True`.'
            )
        return structure


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of all fields but the digest itself, as JSON with sorted keys and without spaces, in hexadecimal."""
    plain = {name: value for name, value in content.items() if name != 'digest'}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(',', ':')).encode()).hexdigest()


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object in a file, read within bounds."""
    try:
        with open(path, 'rb') as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise StructureError(f'structure file {path} cannot be read: {error.strerror}') from error
    if len(data) > MOST_BYTES or sum(map(data.count, (b'"', b'[', b'{'))) > MOST_VALUES:
        raise StructureError(f'{path} is too large for a structure file')
    try:
        content = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except StructureError as error:
        raise StructureError(f'structure file {path} is damaged: {error}') from None
    except RecursionError:
        raise StructureError(f'structure file {path} is damaged: nested too deeply. {REWRITE}') from None
    except ValueError as error:
        raise StructureError(f'structure file {path} is damaged or not JSON: {error}') from error
    if not isinstance(content, dict):
        raise StructureError(f'{path} is not a dms_mm structure file')
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise StructureError(f'{shorten(twice)} comes twice. {REWRITE}')
    return result


def _no_number(name: str) -> float:
    raise StructureError(f'{name} is no number of JSON. {REWRITE}')
