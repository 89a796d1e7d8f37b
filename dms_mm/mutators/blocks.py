"""Residual blocks that depth search may remove: modules that the trace saw return their input plus branches.

What else gives its input back without a branch, as no trace can know, is named by a user: an adapter looks at a block
and names the last module of its branch (relative to the block), or returns None if this block has no plain shortcut.
The mask goes to the last parameters that the branch is linear in; where there are none it multiplies an output. Whether
a block may go is decided by the trace: its output has the same shape and the same elements as its input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from ..mutables import DepthUnit
from ..registry import BLOCKS
from ..tracing import Carriers, Elements, Gate, IntArray, Trace, carriers_of
from .skipped import problem_without

Adapter = Callable[[Any], 'str | None']
Run = list[tuple[str, Carriers]]  # blocks that follow each other, each with the ends of its branches
Runs = dict[str, list[Run]]  # by container


def register_block(*classes: str) -> Callable[[Adapter], Adapter]:
    """Register an adapter for block classes, given as ``package.module.Class``."""

    def register(adapter: Adapter) -> Adapter:
        for name in classes:
            BLOCKS.register_module(name=name, module=adapter)
        return adapter

    return register


def class_path(module: nn.Module) -> str:
    return f'{type(module).__module__}.{type(module).__qualname__}'


def adapter_of(module: nn.Module, extra: Mapping[str, str] | None = None) -> Adapter | None:
    """The adapter of a block's class or of one of its bases; ``extra`` maps class names to branch names."""
    for cls in type(module).__mro__:
        path = f'{cls.__module__}.{cls.__qualname__}'
        for key in (path, cls.__name__):
            if extra and key in extra:
                branch = extra[key]
                return lambda block: branch
        if path in BLOCKS.module_dict:
            return BLOCKS.module_dict[path]
    return None


def find_depth_units(model: nn.Module, trace: Trace, extra: Mapping[str, str] | None = None) -> list[DepthUnit]:
    """Runs of removable blocks that follow each other in one container.

    Blocks are those of :data:`BLOCKS` and ``extra``, and every innermost module that was seen to return its input
    plus what its own submodules make (both sums of a transformer block are one block).

    Raises:
        ValueError: an adapter or a config entry names a branch that the block doesn't have, or a class none of whose
            blocks gives its input without that branch.
    """
    runs = _runs(model, trace, extra)
    units = []
    for parent, groups in _joined(runs, trace).items():
        groups = [g for g in groups if g]
        for k, group in enumerate(groups):
            name = f'{parent or "model"}/depth' + (f'{k}' if len(groups) > 1 else '')
            carriers = [{end[len(path) + 1 :]: names for end, names in ends.items()} for path, ends in group]
            units.append(
                DepthUnit(
                    name=name,
                    size=len(group),
                    blocks=[path for path, _ in group],
                    carriers=carriers,
                )
            )
    return units


def _runs(model: nn.Module, trace: Trace, extra: Mapping[str, str] | None) -> Runs:
    runs: Runs = {}
    matched: set[str] = set()
    refused: dict[str, str] = {}  # class name -> why none of its blocks may go
    taken: set[str] = set()
    seen = {path: ends for path, ends in trace.residual.items() if _same_elements(trace, path)}
    for path, module in model.named_modules():
        adapter = adapter_of(module, extra)
        found = seen.get(path, {})
        if not path or (adapter is None and (not found or any(r.startswith(path + '.') for r in seen))):
            continue
        classes = {c for cls in type(module).__mro__ for c in (f'{cls.__module__}.{cls.__qualname__}', cls.__name__)}
        matched.update(classes)
        parent, _, child = path.rpartition('.')
        groups = runs.setdefault(parent, [[]])
        ends = found if adapter is None else _named_ends(trace, path, module, adapter)
        problem = '' if adapter is None or not ends else problem_without(model, trace, path, next(iter(ends)))
        if problem:
            trace.notes.append(problem)
            refused.update(dict.fromkeys(classes, problem))
        if not ends or problem or not _same_elements(trace, path):
            groups.append([])
            continue
        taken.update(classes)
        # A non-numeric or skipped child name ends a run: blocks of a unit follow each other.
        last = groups[-1][-1][0].rpartition('.')[2] if groups[-1] else None
        if last is not None and _number(child) != _number(last) + 1:
            groups.append([])
        groups[-1].append((path, ends))
    missing = [name for name in extra or () if name not in matched]
    if missing:
        raise ValueError(f'no module of class {missing[0]!r} (entry of `blocks`) is in the model')
    useless = [name for name in extra or () if name in refused and name not in taken]
    if useless:
        raise ValueError(f'no block of class {useless[0]!r} (entry of `blocks`) can go: {refused[useless[0]]}')
    return runs


def _named_ends(trace: Trace, path: str, block: nn.Module, adapter: Adapter) -> Carriers:
    """What takes the mask of the branch that an adapter names."""
    branch = adapter(block)
    if branch is None:
        return {}
    try:
        block.get_submodule(branch)
    except AttributeError as error:
        raise ValueError(
            f'block {path!r} ({class_path(block)}) has no submodule {branch!r} to carry its depth mask'
        ) from error
    return carriers_of(trace, path, f'{path}.{branch}')


def close_gates(model: nn.Module, trace: Trace, units: Sequence[DepthUnit]) -> None:
    """Keep the copies of removed blocks in a concatenation wherever they can't be folded into what reads them.

    They can if only weights of plain products read them, and if the forward goes through an ``nn.ModuleList``, which
    a block can be taken out of.
    """
    elements = trace.elements
    blocks = {path for unit in units if unit.size for path in unit.blocks}
    seen: list[IntArray] = [ids for _, ids in [*trace.norms.values(), *trace.group_norms.values(), *trace.requests]]
    for path, gate in trace.gates.items():
        readers = readers_of(trace, gate)
        plain = readers and all(
            (name, dim) in trace.consumers
            and name not in trace.grouped
            and name not in trace.normed
            and name.rpartition('.')[0] not in trace.standardised
            and np.array_equal(elements.find(trace.params[name][dim]), elements.find(gate.line))
            for name, dim in readers
        )
        root = elements.find(np.array([gate.id]))
        inside = type(model.get_submodule(path.rpartition('.')[0])) is nn.ModuleList
        if path not in blocks or not plain or not inside or any(np.isin(elements.parts(i), root).any() for i in seen):
            close_gate(elements, gate)


def close_gate(elements: Elements, gate: Gate) -> None:
    elements.freeze(np.array([gate.id]), 'a block whose copy stays in a concatenation')


def readers_of(trace: Trace, gate: Gate) -> list[tuple[str, int]]:
    """Dimensions of parameters that live and die with a block that is concatenated."""
    root = trace.elements.find(np.array([gate.id]))
    return [
        (name, d)
        for name, dims in trace.params.items()
        for d, ids in enumerate(dims)
        if np.isin(trace.elements.parts(ids), root).any()
    ]


def _joined(runs: Runs, trace: Trace) -> Runs:
    """Runs of one block each whose containers follow each other (``blocks.0.fn``, ``blocks.1.fn``) as one run."""
    result: Runs = {}
    chain: list[tuple[str, Run]] = []  # parents of one block each, and the blocks

    def close() -> None:
        if len(chain) > 1:
            container = chain[0][0].rpartition('.')[0]
            result.setdefault(container, []).append([block for _, group in chain for block in group])
        for parent, group in chain if len(chain) == 1 else ():
            result.setdefault(parent, []).append(group)
        chain.clear()

    for parent, groups in runs.items():
        groups = [g for g in groups if g]
        if len(groups) != 1 or len(groups[0]) != 1 or _number(parent) < 0:
            close()
            result.setdefault(parent, []).extend(groups)
            continue
        if chain:
            before, ((path, _),) = chain[-1]
            follows = (
                before.rpartition('.')[0] == parent.rpartition('.')[0]
                and _number(before) + 1 == _number(parent)
                and path[len(before) :] == groups[0][0][0][len(parent) :]
            )
            if not follows or not _same_place(trace, path, groups[0][0][0]):
                close()
        chain.append((parent, groups[0]))
    close()
    return result


def _same_place(trace: Trace, a: str, b: str) -> bool:
    """The second block takes what the first one gives."""
    after, before = trace.io[a][1], trace.io[b][0]
    return bool(after[0] == before[0] and _parts(trace, after) == _parts(trace, before))


def _parts(trace: Trace, signature: Any) -> list[Any]:
    """What may go of a tensor, by dimension: frozen positions are all alike."""
    frozen = np.append(trace.elements.frozen_mask(), True)  # the last for "none"
    parts = [(d, trace.elements.parts(ids)) for d, ids in signature[1]]
    open_parts = [(d, np.where(frozen[p], -1, p)) for d, p in parts]
    return sorted((d, p.tolist()) for d, p in open_parts if (p >= 0).any())


def _number(name: str) -> int:
    digits = re.search(r'(\d+)$', name)
    return int(digits.group(1)) if digits else -1


def _same_elements(trace: Trace, path: str) -> bool:
    before, after = trace.io.get(path, (None, None))
    if before is None or after is None or before[0] != after[0]:
        return False
    return _parts(trace, before) == _parts(trace, after)
