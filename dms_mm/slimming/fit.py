"""Structure + model -> what becomes of every tensor; compared with the model before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .layers import disagreement, name_problem
from .ranges import from_ranges, shorten
from .schema import StructureError, fail, parents, place
from .structure import Structure

ADVICE = 'The structure file was made for another architecture; build the model with the config of the search.'


@dataclass
class Change:
    """What becomes of one tensor: folds, then scales, then slices. Positions are int64."""

    name: str
    slices: dict[int, np.ndarray] = field(default_factory=dict)
    scales: list[tuple[int, np.ndarray, float]] = field(default_factory=list)
    folds: list[tuple[int, np.ndarray, np.ndarray]] = field(default_factory=list)

    def shape(self, x: Tensor) -> tuple[int, ...]:
        return tuple(len(self.slices[d]) if d in self.slices else n for d, n in enumerate(x.shape))

    def __call__(self, x: Tensor) -> Tensor:
        """The new tensor, on the same device and in the same memory format; a parameter stays one."""
        value = x.detach()

        def on(positions: np.ndarray) -> Tensor:
            return torch.from_numpy(positions).to(value.device)

        for dim, to, source in self.folds:
            value = value.index_add(dim, on(to), value.index_select(dim, on(source)))
        for dim, positions, factor in self.scales:
            value = value.index_copy(dim, on(positions), value.index_select(dim, on(positions)) * factor)
        for dim, positions in self.slices.items():
            value = value.index_select(dim, on(positions))
        value = _as_laid_out(value, x)
        return nn.Parameter(value, requires_grad=x.requires_grad) if isinstance(x, nn.Parameter) else value


def _as_laid_out(value: Tensor, x: Tensor) -> Tensor:
    """``value`` with channels last in memory, if ``x`` has them there."""
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if layout is None or not x.is_contiguous(memory_format=layout) or x.stride() == x.new_empty(x.shape).stride():
        return value
    # Of a single position in space both formats are one to torch, which would change no strides.
    return torch.empty(value.shape, dtype=value.dtype, device=value.device, memory_format=layout).copy_(value)


def own_tensors(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """Where a module itself holds its parameters and buffers: (store, key, tensor)."""
    for store in (module._parameters, module._buffers):
        for key, x in store.items():
            if x is not None:
                yield store, key, x


def changes_of(model: nn.Module, structure: Structure) -> dict[int, Change]:
    """Identity of a tensor -> its change.

    Raises:
        StructureError: the structure is for another architecture, or a position is outside of its dimension.
    """
    owner = type(model).__name__
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors.update(model.named_buffers(remove_duplicate=False))
    for name, shape in structure.shapes.items():
        if name not in tensors:
            raise StructureError(
                f'{place("shapes", name)}: {owner} has no parameter {name!r}, which the structure slices. {ADVICE}'
            )
        if list(tensors[name].shape) != list(shape):
            raise StructureError(
                f'{place("shapes", name)}: parameter {name!r} has shape {tuple(tensors[name].shape)} in the model but '
                f'{tuple(shape)} in the structure. {ADVICE}'
            )
    for table in ('slices', 'scales', 'folds'):
        for name in getattr(structure, table):
            if name not in tensors:
                raise StructureError(
                    f'{place(table, name)}: {owner} has no parameter {name!r}, which the structure changes. {ADVICE}'
                )
            if not (tensors[name].is_floating_point() or tensors[name].is_complex()):
                raise fail('holds indices or counters, which stay', table, name)
    modules = dict(model.named_modules(remove_duplicate=False))
    for table in ('removed', 'attributes'):
        for path in getattr(structure, table):
            if path not in modules:
                where = place(table, path) if table == 'attributes' else table
                raise StructureError(f'{where}: {owner} has no module {path!r}, which the structure names. {ADVICE}')
    count = len(list(model.named_parameters()))
    if structure.parameters and count != structure.parameters:
        raise StructureError(
            f'parameters: {owner} has {count} parameters, the structure expects {structure.parameters}. {ADVICE}'
        )
    return _read_changes(structure, tensors)


def _read_changes(structure: Structure, tensors: dict[str, Tensor]) -> dict[int, Change]:
    changes: dict[int, Change] = {}

    def positions(name: str, dim: int, text: str, *where: Any) -> np.ndarray:
        shape = tensors[name].shape
        if dim >= len(shape):
            raise fail(f'a tensor of shape {tuple(shape)} has no such dimension', *where)
        try:
            return from_ranges(text, shape[dim])
        except ValueError as error:
            raise fail(str(error), *where) from None

    for name in dict.fromkeys([*structure.slices, *structure.scales, *structure.folds]):
        if id(tensors[name]) in changes:
            other = changes[id(tensors[name])].name
            raise fail(f'the same parameter as {shorten(other, 200)}, which is changed as well', 'slices', name)
        change = changes[id(tensors[name])] = Change(name)
        for key, text in structure.slices.get(name, {}).items():
            change.slices[int(key)] = positions(name, int(key), text, 'slices', name, key)
        for k, (dim, text, factor) in enumerate(structure.scales.get(name, [])):
            change.scales.append((dim, positions(name, dim, text, 'scales', name, k), factor))
        for k, (dim, *texts) in enumerate(structure.folds.get(name, [])):
            to, source = (positions(name, dim, text, 'folds', name, k) for text in texts)
            if len(to) != len(source):
                raise fail(f'{len(source)} positions are added to {len(to)}', 'folds', name, k)
            change.folds.append((dim, to, source))
    return changes


def check_fit(model: nn.Module, structure: Structure, changes: dict[int, Change]) -> None:
    """Compare what the structure would make with itself, before it is made.

    Raises:
        StructureError: names the field.
    """
    for change in changes.values():
        _check_folds(change)
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, attributes in structure.attributes.items():
        for name, value in attributes.items():
            problem = _attribute_problem(modules[path], name, value)
            if problem:
                raise fail(problem, 'attributes', path, name)
    for path in structure.dropped:
        if not isinstance(modules[path.rpartition('.')[0]], nn.ModuleList):
            raise fail(f'{shorten(path, 200)} is in no ModuleList, which it could be taken out of', 'dropped')
    gone = _gone(model, structure)
    # A module of several names has what is said of any of them.
    said: dict[int, dict[str, Any]] = {}
    for path, attributes in structure.attributes.items():
        said.setdefault(id(modules[path]), {}).update(attributes)
    for path, module in modules.items():
        own = list(own_tensors(module))
        given = said.get(id(module), {})
        if (not given and not any(id(x) in changes for _, _, x in own)) or gone.intersection([path, *parents(path)]):
            continue
        shapes = {key: changes[id(x)].shape(x) if id(x) in changes else tuple(x.shape) for _, key, x in own}
        problem_at = disagreement(module, shapes, given)
        if problem_at is not None:
            key, problem = problem_at
            table = 'slices' if key in shapes else 'attributes'
            keys = (f'{path}.{key}' if path else key,) if key in shapes else (path, key)
            raise fail(problem, table, *keys)
    _check_count(model, structure, changes)


def _gone(model: nn.Module, structure: Structure) -> set[str]:
    """All names of the removed blocks."""
    modules = dict(model.named_modules(remove_duplicate=False))
    removed = {id(modules[path]) for path in structure.removed}
    return {path for path, module in modules.items() if id(module) in removed}


def _check_folds(change: Change) -> None:
    used: dict[int, set[int]] = {}
    for k, (dim, to, source) in enumerate(change.folds):
        seen = used.setdefault(dim, set())
        added = set(source.tolist())
        if added & seen or added & set(to.tolist()):
            raise fail('positions are added twice, or to themselves', 'folds', change.name, k)
        if dim not in change.slices or np.isin(source, change.slices[dim]).any():
            raise fail('positions that are added to others stay as well', 'folds', change.name, k)
        seen |= added


def _attribute_problem(module: nn.Module, name: str, value: Any) -> str:
    """Why a structure file may not set an attribute: it sets sizes that a module has, to no more than they are."""
    problem = name_problem(module, name)
    if problem:
        return problem
    kind = type(module).__name__
    old = vars(module)[name]
    several = isinstance(old, (list, tuple))
    before = list(old) if several else [old]
    if not before or any(type(n) is not int for n in before):
        return f'{kind} has no number there, but {shorten(old)}'
    after = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(after) != len(before) or several != isinstance(value, (list, tuple)):
        return f'{shorten(value)} is not of the form of {shorten(old)}'
    if any(new != was and not 1 <= new < was for new, was in zip(after, before)):
        return f'{shorten(value)} is not between 1 and {shorten(old)}'
    return ''


def _check_count(model: nn.Module, structure: Structure, changes: dict[int, Change]) -> None:
    """``resources['params']`` is the number of parameters of what is made."""
    if 'params' not in structure.resources:
        return
    gone = _gone(model, structure)
    alive: dict[int, int] = {}
    for name, x in model.named_parameters(remove_duplicate=False):
        if not gone.intersection(parents(name)):
            alive[id(x)] = int(np.prod(changes[id(x)].shape(x), dtype=object)) if id(x) in changes else x.numel()
    made = sum(alive.values())
    if made != structure.resources['params']:
        raise fail(
            f'{shorten(structure.resources["params"])} parameters, where the structure makes {made}',
            'resources', 'params',
        )  # fmt: skip
