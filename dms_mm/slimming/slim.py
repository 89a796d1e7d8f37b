"""Structure file + architecture -> slim plain module. Needs no tracing and works on any device, ``meta`` too."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .structure import Structure, StructureError, from_ranges

# What a layer stores about its own shape: layer type -> function from module (with its new parameters) to attributes.
LAYER_ATTRIBUTES: list[tuple[tuple[type, ...], Callable[[Any], dict[str, Any]]]] = []


def layer_attributes(*types: type) -> Callable[[Callable[[Any], dict[str, Any]]], Callable[[Any], dict[str, Any]]]:
    def register(function: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
        LAYER_ATTRIBUTES.append((types, function))
        return function

    return register


@layer_attributes(nn.modules.conv._ConvNd)
def _conv(m: Any) -> dict[str, Any]:
    first, second = m.weight.shape[:2]
    return (
        {'in_channels': first, 'out_channels': second * m.groups}
        if m.transposed
        else {'in_channels': second * m.groups, 'out_channels': first}
    )


@layer_attributes(nn.Linear)
def _linear(m: Any) -> dict[str, Any]:
    return {'out_features': m.weight.shape[0], 'in_features': m.weight.shape[1]}


@layer_attributes(nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
def _batch_norm(m: Any) -> dict[str, Any]:
    vector = m.weight if m.weight is not None else m.running_mean
    return {} if vector is None else {'num_features': vector.shape[0]}


@layer_attributes(nn.Embedding)
def _embedding(m: Any) -> dict[str, Any]:
    return {'num_embeddings': m.weight.shape[0], 'embedding_dim': m.weight.shape[1]}


@layer_attributes(nn.LayerNorm, nn.RMSNorm)
def _layer_norm(m: Any) -> dict[str, Any]:
    return {} if m.weight is None or m.weight.ndim != 1 else {'normalized_shape': tuple(m.weight.shape)}


@layer_attributes(nn.GroupNorm)
def _group_norm(m: Any) -> dict[str, Any]:
    return {} if m.weight is None else {'num_channels': m.weight.shape[0]}


@layer_attributes(nn.PReLU)
def _prelu(m: Any) -> dict[str, Any]:
    return {'num_parameters': m.weight.shape[0]}


def set_layer_attributes(module: nn.Module) -> None:
    """Bring the sizes that a layer stores in line with its parameters."""
    for types, function in LAYER_ATTRIBUTES:
        if isinstance(module, types):
            for name, value in function(module).items():
                setattr(module, name, value)


class Skip(nn.Identity):
    """A removed block that was called with more than its input, or returned a tuple: its first argument goes on.

    Plain attributes stay, since a model may ask its blocks for them.
    """

    def __init__(self, block: nn.Module, outputs: int = 0) -> None:
        super().__init__()
        for name, value in vars(block).items():
            if not name.startswith('_') and type(value) in (str, int, float, bool):
                setattr(self, name, value)
        self.outputs = outputs

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        return (input, *[None] * (self.outputs - 1)) if self.outputs else input


def _fits(model: nn.Module, structure: Structure) -> None:
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors.update(model.named_buffers(remove_duplicate=False))
    advice = 'The structure file was made for another architecture; build the model with the config of the search.'
    owner = type(model).__name__
    for name, shape in structure.shapes.items():
        if name not in tensors:
            raise StructureError(f'{owner} has no parameter {name!r}, which the structure slices. {advice}')
        if list(tensors[name].shape) != list(shape):
            raise StructureError(
                f'parameter {name!r} has shape {tuple(tensors[name].shape)} in the model but {tuple(shape)} in the '
                f'structure. {advice}'
            )
    missing = [name for name in [*structure.scales, *structure.folds] if name not in tensors]
    if missing:
        raise StructureError(f'{owner} has no parameter {missing[0]!r}, which the structure changes. {advice}')
    modules = dict(model.named_modules())
    for path in [*structure.removed, *structure.attributes]:
        if path not in modules:
            raise StructureError(f'{type(model).__name__} has no module {path!r}, which the structure names. {advice}')
    count = len(list(model.named_parameters()))
    if structure.parameters and count != structure.parameters:
        raise StructureError(f'{owner} has {count} parameters, the structure expects {structure.parameters}. {advice}')


def build_slim(model: nn.Module, structure: Structure | str | os.PathLike[str]) -> nn.Module:
    """Make a freshly built supernet architecture slim, in place, and return it.

    Args:
        model: the architecture that was searched, on any device.
        structure: a :class:`Structure` or the path of its file.

    Returns:
        The same module with smaller parameters; classes and names as before, removed blocks are ``nn.Identity``, or
        gone from their list where it is concatenated. With ``structure.renumber``, blocks are numbered anew.

    Raises:
        StructureError: unreadable file, or a file for another architecture; names the first parameter that differs.
    """
    if not isinstance(structure, Structure):
        structure = Structure.load(structure)
    _fits(model, structure)
    replaced: dict[int, Tensor] = {}
    touched: set[str] = set(structure.attributes)
    slices = {
        name: {int(d): torch.from_numpy(from_ranges(text)) for d, text in dims.items()}
        for name, dims in structure.slices.items()
    }
    # Held until the end, or a new tensor could take the identity of a freed one.
    originals = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    changed = {*slices, *structure.scales, *structure.folds}
    by_id = {id(x): slices.get(name, {}) for name, x in originals if name in changed}
    scales = {id(x): structure.scales[name] for name, x in originals if name in structure.scales}
    folds = {id(x): structure.folds[name] for name, x in originals if name in structure.folds}
    for path, module in model.named_modules():
        for store in (module._parameters, module._buffers):
            for key, x in store.items():
                if x is None or id(x) not in by_id:
                    continue
                if id(x) not in replaced:
                    value = x.detach()
                    for dim, to, source in folds.get(id(x), []):
                        there, here = (torch.from_numpy(from_ranges(text)).to(value.device) for text in (to, source))
                        value = value.index_add(dim, there, value.index_select(dim, here))
                    for dim, text, factor in scales.get(id(x), []):
                        index = torch.from_numpy(from_ranges(text)).to(value.device)
                        value = value.index_copy(dim, index, value.index_select(dim, index) * factor)
                    for dim, index in by_id[id(x)].items():
                        value = value.index_select(dim, index.to(value.device))
                    if isinstance(x, nn.Parameter):
                        value = nn.Parameter(value, requires_grad=x.requires_grad)
                    replaced[id(x)] = value
                store[key] = replaced[id(x)]
                touched.add(path)
    modules = dict(model.named_modules())
    for path in touched:
        for name, value in structure.attributes.get(path, {}).items():
            setattr(modules[path], name, tuple(value) if isinstance(value, list) else value)
        set_layer_attributes(modules[path])
    for path in structure.removed:
        parent, _, child = path.rpartition('.')
        if path in structure.dropped:
            del modules[parent]._modules[child]
            continue
        skip = nn.Identity() if path not in structure.outputs else Skip(modules[path], structure.outputs[path])
        setattr(modules[parent] if parent else model, child, skip)
    if structure.renumber:
        _close_gaps(model, structure.removed)
    return model


def _close_gaps(model: nn.Module, removed: Sequence[str]) -> None:
    """Number the blocks that are left in their ``nn.Sequential`` or ``nn.ModuleList`` from 0 on."""
    for parent in dict.fromkeys(path.rpartition('.')[0] for path in removed):
        container = model.get_submodule(parent)
        if isinstance(container, (nn.Sequential, nn.ModuleList)) and all(k.isdigit() for k in container._modules):
            gone = {path.rpartition('.')[2] for path in removed if path.rpartition('.')[0] == parent}
            left = [m for k, m in container._modules.items() if k not in gone]
            container._modules.clear()
            container._modules.update({str(k): m for k, m in enumerate(left)})
