"""What a structure file may hold: types and bounds, and what its fields say about each other.

Nothing here knows the model; :mod:`.fit` compares with it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field, PlainValidator, StringConstraints, ValidationError

from .ranges import count_ranges, shorten

FORMAT = 'dms_mm.structure'
VERSION = 3  # 2 has no confidence, 1 no digest either
MOST = 256  # entries of one parameter, module or unit
WIDTHS = ('channel', 'head', 'head_dim', 'expert')  # kinds of units that keep at least one element

REWRITE = 'Take the file as the search or `dms slim` wrote it.'


class StructureError(ValueError):
    """A structure file is unreadable, foreign, changed, inconsistent, or made for another model.

    The message begins with the field at fault, or names the parameter or module of the model that differs.
    """


def _attribute(value: Any) -> Any:
    """A whole number or a list of them, as an attribute that states sizes holds."""
    for number in value if type(value) is list and value else [value]:
        if type(number) is not int or abs(number) >= 2**31:
            raise ValueError(f'{shorten(value)} is no whole number below 2**31 and no list of such')
    return value


def _count(value: Any) -> Any:
    # Not a union: its errors would name each of its members.
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value < 2**63:
        raise ValueError(f'{shorten(value)} is no number of 0 or more')
    return value


Name = Annotated[str, StringConstraints(max_length=1000)]
Filled = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Key = Annotated[str, StringConstraints(pattern=r'^(0|[1-9][0-9]?)$')]
Dim = Annotated[int, Field(ge=0, lt=100)]
Place = Annotated[int, Field(ge=0, le=64)]
Size = Annotated[int, Field(ge=1, lt=2**31)]
Attribute = Annotated[Any, PlainValidator(_attribute)]
Count = Annotated[Any, PlainValidator(_count)]
Factor = Annotated[float, Field(gt=1e-9, lt=1e9)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra='forbid', allow_inf_nan=False)


class UnitEntry(_Strict):
    kind: Filled
    size: Size
    keep: str
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.0  # where a search measured it; not there where none did


class StructureFile(_Strict):
    """The fields of a :class:`~.structure.Structure`, where their meaning is said, as JSON."""

    shapes: dict[Filled, list[Annotated[int, Field(ge=0, lt=2**31)]]] = {}
    slices: dict[Filled, dict[Key, str]] = {}
    scales: dict[Filled, list[tuple[Dim, str, Factor]]] = {}
    folds: dict[Filled, list[tuple[Dim, str, str]]] = {}
    attributes: dict[Name, dict[Filled, Attribute]] = {}
    removed: Annotated[list[Filled], FailFast()] = []
    dropped: Annotated[list[Filled], FailFast()] = []
    renumber: bool | list[Filled] = False
    outputs: dict[Filled, Place | Filled | Annotated[list[Place | Filled | None], Field(max_length=64)]] = {}
    units: dict[Filled, UnitEntry] = {}
    resources: dict[Filled, Count] = {}
    supernet: dict[Filled, Count] = {}
    parameters: Annotated[int, Field(ge=0, lt=2**31)] = 0


FIELDS = tuple(StructureFile.model_fields)


def check_types(content: Mapping[str, Any]) -> None:
    """Compare plain values as JSON gives them with the schema.

    Raises:
        StructureError: the first value that is of another type, out of bounds, or of an unknown field.
    """
    for name in content:
        if name not in FIELDS:
            raise StructureError(f'unknown field {shorten(name)}. {REWRITE}')
    plain = {}
    for field, value in content.items():
        if not isinstance(value, dict):
            plain[field] = value
            continue
        # Entry by entry: a list of a million errors would take more memory than the file.
        for key, entry in value.items():
            if isinstance(entry, (dict, list)) and len(entry) > MOST:
                raise StructureError(
                    f'{field}[{shorten(key)}]: {len(entry)} entries, where {MOST} are the most. {REWRITE}'
                )
            _validate({field: {key: _tuples(entry)}})
    _validate(plain)


def _tuples(entry: Any) -> Any:
    """JSON knows no tuples, and a strict schema takes no lists for them."""
    if isinstance(entry, list):
        return [tuple(e) if isinstance(e, list) and len(e) <= MOST else e for e in entry]
    return entry


def _validate(content: dict[str, Any]) -> None:
    try:
        StructureFile.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        message = first['msg'].removeprefix('Value error, ')
        value = '' if shorten(first['input']) in message else f', not {shorten(first["input"])}'
        raise StructureError(f'{place(*first["loc"])}: {message}{value}. {REWRITE}') from None


def place(field: Any, *keys: Any) -> str:
    """``slices['conv1.weight'][0]``: where in the file a value is."""
    parts = [str(k) if isinstance(k, int) or str(k).isdigit() else shorten(k, 300) for k in keys if k != '[key]']
    return str(field) + ''.join(f'[{part}]' for part in parts)


def fail(message: str, field: str, *keys: Any) -> StructureError:
    return StructureError(f'{place(field, *keys)}: {message}. {REWRITE}')


def counted(text: str, size: int, *where: Any) -> int:
    """:func:`count_ranges` with the field in its error."""
    try:
        return count_ranges(text, size)
    except ValueError as error:
        raise fail(str(error), *where) from None


def check_fields(content: Mapping[str, Any]) -> None:
    """Compare the fields with each other; ``content`` has passed :func:`check_types` and has all fields.

    Raises:
        StructureError: two fields disagree; names one of them.
    """
    _check_blocks(content)
    shapes, slices = content['shapes'], content['slices']
    for name in shapes:
        if name not in slices:
            raise fail('a shape of what `slices` does not slice', 'shapes', name)
    for name, dims in slices.items():
        if name not in shapes:
            raise fail('`shapes` has no shape of it', 'slices', name)
        if not dims:
            raise fail('no dimension', 'slices', name)
        for key, text in dims.items():
            if int(key) >= len(shapes[name]):
                raise fail(f'a tensor of shape {tuple(shapes[name])} has no such dimension', 'slices', name, key)
            if not counted(text, shapes[name][int(key)], 'slices', name, key):
                raise fail('no position is left', 'slices', name, key)
    for field in ('resources', 'supernet'):
        other = content['supernet' if field == 'resources' else 'resources']
        for name in content[field]:
            if name not in other:
                raise fail('a count of the slim model or of the supernet is missing', field, name)


def _check_blocks(content: Mapping[str, Any]) -> None:
    removed = content['removed']
    gone = set(removed)
    for field in ('removed', 'dropped'):
        twice = [path for path, count in Counter(content[field]).items() if count > 1]
        if twice:
            raise fail(f'{shorten(twice[0])} is named twice', field)
    for k, path in enumerate(removed):
        inside = next((p for p in parents(path) if p in gone), None)
        if inside is not None:
            raise fail(f'{shorten(path)} lies in {shorten(inside)}, which is removed as well', 'removed', k)
    for k, path in enumerate(content['dropped']):
        if path not in gone:
            raise fail(f'{shorten(path)} is not in `removed`', 'dropped', k)
    for path in content['outputs']:
        if path not in gone:
            raise fail('not in `removed`', 'outputs', path)
    for field in ('slices', 'scales'):
        for name in content[field]:
            inside = next((p for p in parents(name) if p in gone), None)
            if inside is not None:
                raise fail(f'lies in {shorten(inside)}, which is removed', field, name)
    _check_units(content['units'], len(removed))


def _check_units(units: Mapping[str, Any], removed: int) -> None:
    lost = blocks = experts = 0
    for name, unit in units.items():
        kept = counted(unit['keep'], unit['size'], 'units', name, 'keep')
        if not kept and unit['kind'] in WIDTHS:
            raise fail('nothing is kept', 'units', name, 'keep')
        lost += unit['size'] - kept if unit['kind'] not in WIDTHS else 0
        experts += unit['size'] - kept if unit['kind'] == 'expert' else 0
        blocks += unit['size'] - kept if unit['kind'] == 'depth' else 0
    # A block inside of a removed one is not named; an expert may be an entry of several lists.
    if units and ((removed > lost and not experts) or (blocks and not removed)):
        raise fail(f'{removed} blocks, where `units` lose {lost}', 'removed')


def parents(path: str) -> list[str]:
    """Modules that a module or parameter lies in, without the model itself."""
    parts = path.split('.')
    return ['.'.join(parts[:k]) for k in range(1, len(parts))]
