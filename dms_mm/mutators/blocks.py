"""Residual blocks that depth search may remove: a table from block class to the branch that takes the mask.

An adapter looks at a block and names the last module of its residual branch (relative to the block), or returns None
if the block has no plain shortcut. If that module is affine (a norm or a layer with weight and bias), the mask folds
into its parameters; else it multiplies the module's output. Whether a block may go is then decided by the trace: its
output has the same shape and the same elements as its input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from ..mutables import DepthUnit
from ..registry import BLOCKS
from ..tracing import Elements, Gate, IntArray, Trace
from .fold import is_affine

Adapter = Callable[[Any], 'str | None']
Runs = dict[str, list[list[tuple[str, list[str]]]]]  # container -> runs of (block, its branches)


def register_block(*classes: str) -> Callable[[Adapter], Adapter]:
    """Register an adapter for block classes, given as ``package.module.Class``."""

    def register(adapter: Adapter) -> Adapter:
        for name in classes:
            BLOCKS.register_module(name=name, module=adapter)
        return adapter

    return register


@register_block('torchvision.models.resnet.BasicBlock', 'torchvision.models.resnet.Bottleneck')
def torchvision_resnet(block: Any) -> str | None:
    if block.downsample is not None:
        return None
    return 'bn3' if hasattr(block, 'bn3') else 'bn2'


@register_block('torchvision.models.mobilenetv2.InvertedResidual')
def torchvision_mobilenet_v2(block: Any) -> str | None:
    return f'conv.{len(block.conv) - 1}' if block.use_res_connect else None


@register_block('torchvision.models.mobilenetv3.InvertedResidual')
def torchvision_mobilenet_v3(block: Any) -> str | None:
    return f'block.{len(block.block) - 1}.1' if block.use_res_connect else None


@register_block('torchvision.models.efficientnet.MBConv', 'torchvision.models.efficientnet.FusedMBConv')
def torchvision_efficientnet(block: Any) -> str | None:
    return f'block.{len(block.block) - 1}.1' if block.use_res_connect else None


@register_block('timm.models.resnet.BasicBlock', 'timm.models.resnet.Bottleneck', 'timm.models.res2net.Bottle2neck')
def timm_resnet(block: Any) -> str | None:
    last = getattr(block, 'act3', None) or getattr(block, 'act2', None) or getattr(block, 'relu', None)
    # The activation behind the sum leaves an input that it made as it is only if it rectifies.
    if block.downsample is not None or not isinstance(last, (nn.ReLU, nn.Identity)):
        return None
    if getattr(block, 'se', None) is not None:
        return 'se'
    return 'bn3' if hasattr(block, 'bn3') else 'bn2'


@register_block(
    'timm.models._efficientnet_blocks.InvertedResidual',
    'timm.models._efficientnet_blocks.DepthwiseSeparableConv',
    'timm.models._efficientnet_blocks.EdgeResidual',
)
def timm_efficientnet(block: Any) -> str | None:
    if not block.has_skip:
        return None
    return 'bn3' if hasattr(block, 'bn3') else 'bn2'


@register_block('timm.models.regnet.Bottleneck')
def timm_regnet(block: Any) -> str | None:
    plain = isinstance(block.downsample, (nn.Identity, type(None))) and isinstance(block.act3, (nn.ReLU, nn.Identity))
    return 'conv3.bn' if plain else None


@register_block('mmpretrain.models.backbones.resnet.BasicBlock', 'mmpretrain.models.backbones.resnet.Bottleneck')
@register_block('mmdet.models.backbones.resnet.BasicBlock', 'mmdet.models.backbones.resnet.Bottleneck')
def mm_resnet(block: Any) -> str | None:
    if block.downsample is not None:
        return None
    return block.norm3_name if hasattr(block, 'norm3_name') else block.norm2_name


@register_block('mmpretrain.models.backbones.mobilenet_v2.InvertedResidual')
def mmpretrain_mobilenet_v2(block: Any) -> str | None:
    return f'conv.{len(block.conv) - 1}.bn' if block.use_res_connect else None


@register_block('mmpretrain.models.utils.inverted_residual.InvertedResidual')
def mmpretrain_inverted_residual(block: Any) -> str | None:
    return 'linear_conv.bn' if block.with_res_shortcut else None


@register_block('mmpretrain.models.backbones.efficientnet.EdgeResidual')
def mmpretrain_edge_residual(block: Any) -> str | None:
    return 'conv2.bn' if block.with_residual else None


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
        ValueError: an adapter or a config entry names a branch that the block doesn't have.
    """
    position = {path: i for i, path in enumerate(trace.order)}
    runs: Runs = {}
    matched: set[str] = set()
    for path, module in model.named_modules():
        adapter = adapter_of(module, extra)
        found = trace.residual.get(path, [])
        if not path or (adapter is None and (not found or any(r.startswith(path + '.') for r in trace.residual))):
            continue
        matched.update(
            c for cls in type(module).__mro__ for c in (f'{cls.__module__}.{cls.__qualname__}', cls.__name__)
        )
        parent, _, child = path.rpartition('.')
        groups = runs.setdefault(parent, [[]])
        branch = adapter(module) if adapter is not None else None
        branches = [branch] if branch is not None else [r[len(path) + 1 :] for r in found if adapter is None]
        if not branches or path not in position or not _same_elements(trace, path):
            groups.append([])
            continue
        try:
            branches = [f'{b}.{tail}' if (tail := _tail(module.get_submodule(b))) else b for b in branches]
        except AttributeError as error:
            raise ValueError(
                f'block {path!r} ({class_path(module)}) has no submodule {branch!r} to carry its depth mask'
            ) from error
        # A non-numeric or skipped child name ends a run: blocks of a unit follow each other.
        last = groups[-1][-1][0].rpartition('.')[2] if groups[-1] else None
        if last is not None and _number(child) != _number(last) + 1:
            groups.append([])
        groups[-1].append((path, branches))
    missing = [name for name in extra or () if name not in matched]
    if missing:
        raise ValueError(f'no module of class {missing[0]!r} (entry of `blocks`) is in the model')
    units = []
    for parent, groups in _joined(runs, trace).items():
        groups = [g for g in groups if g]
        for k, group in enumerate(groups):
            name = f'{parent or "model"}/depth' + (f'{k}' if len(groups) > 1 else '')
            blocks = [path for path, _ in group]
            units.append(DepthUnit(name=name, size=len(group), blocks=blocks, branches=[b for _, b in group]))
    return units


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
    chain: list[tuple[str, list[tuple[str, list[str]]]]] = []  # parents of one block each, and the blocks

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
    return sorted((d, trace.elements.parts(ids).tolist()) for d, ids in signature[1])


def _tail(module: nn.Module) -> str:
    """The affine layer at the end of a chain, past what does nothing in a mask's way; '' if there is none."""
    if isinstance(module, nn.Sequential):
        for name, child in reversed(list(module.named_children())):
            if not isinstance(child, (nn.Identity, nn.Dropout)):
                deeper = _tail(child)
                return f'{name}.{deeper}' if deeper else name if is_affine(child) else ''
    return ''


def _number(name: str) -> int:
    digits = re.search(r'(\d+)$', name)
    return int(digits.group(1)) if digits else -1


def _same_elements(trace: Trace, path: str) -> bool:
    before, after = trace.io.get(path, (None, None))
    if before is None or after is None or before[0] != after[0]:
        return False
    return _parts(trace, before) == _parts(trace, after)
