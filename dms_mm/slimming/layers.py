"""What a layer stores about its own shape, and which of its parameters have to agree."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.weight_norm import WeightNorm

# Layer type -> function from module (with its new parameters) to attributes.
LAYER_ATTRIBUTES: list[tuple[tuple[type, ...], Callable[[Any], dict[str, Any]]]] = []

# What PyTorch's own layers may be given by a structure file; a module of another library has names of its own.
TORCH_SIZES = {
    'd_model', 'embed_dim', 'embedding_dim', 'groups', 'head_dim', 'hidden_size', 'in1_features', 'in2_features',
    'in_channels', 'in_features', 'input_size', 'kdim', 'normalized_shape', 'num_channels', 'num_embeddings',
    'num_features', 'num_groups', 'num_heads', 'num_parameters', 'out_channels', 'out_features', 'proj_size',
    'unflattened_size', 'vdim',
}  # fmt: skip
# These are numbers, too, but say where a layer looks, not how wide it is.
GEOMETRY = {'kernel_size', 'stride', 'padding', 'dilation', 'output_padding'}


def name_problem(module: nn.Module, name: str) -> str:
    """Why a module's attribute is none that a structure file may set, whatever it holds."""
    kind = type(module).__name__
    if name.startswith('_') or name == 'training' or name in GEOMETRY:
        return 'no size of a layer'
    if name not in vars(module) or hasattr(inspect.getattr_static(type(module), name, None), '__set__'):
        return f'{kind} has no such number'
    if type(module).__module__.startswith('torch.nn.') and name not in TORCH_SIZES:
        return f'no size of {kind}'
    return ''


Shapes = Mapping[str, tuple[int, ...]]


def layer_attributes(*types: type) -> Callable[[Callable[[Any], dict[str, Any]]], Callable[[Any], dict[str, Any]]]:
    def register(function: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
        LAYER_ATTRIBUTES.append((types, function))
        return function

    return register


def _weight(m: Any) -> Tensor:
    """The weight; where a hook makes it before every forward (weight_norm, spectral_norm), what it is made of."""
    for name in ('weight', 'weight_v', 'weight_orig'):
        own: Tensor | None = m._parameters.get(name)
        if own is not None:
            return own
    # What makes a parametrized one may go a step of its own whenever it is read in training mode.
    flags = {x: x.training for x in m.modules()}
    m.eval()
    weight: Tensor = m.weight
    for x, flag in flags.items():
        x.training = flag
    return weight


@layer_attributes(nn.modules.conv._ConvNd)
def _conv(m: Any) -> dict[str, Any]:
    first, second = _weight(m).shape[:2]
    return (
        {'in_channels': first, 'out_channels': second * m.groups}
        if m.transposed
        else {'in_channels': second * m.groups, 'out_channels': first}
    )


@layer_attributes(nn.Linear)
def _linear(m: Any) -> dict[str, Any]:
    return {'out_features': _weight(m).shape[0], 'in_features': _weight(m).shape[1]}


@layer_attributes(nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
def _batch_norm(m: Any) -> dict[str, Any]:
    vector = m.weight if m.weight is not None else m.running_mean
    return {} if vector is None else {'num_features': vector.shape[0]}


@layer_attributes(nn.Embedding)
def _embedding(m: Any) -> dict[str, Any]:
    return {'num_embeddings': m.weight.shape[0], 'embedding_dim': m.weight.shape[1]}


@layer_attributes(nn.LayerNorm, nn.RMSNorm)
def _layer_norm(m: Any) -> dict[str, Any]:
    return {} if m.weight is None else {'normalized_shape': tuple(m.weight.shape)}


@layer_attributes(nn.GroupNorm)
def _group_norm(m: Any) -> dict[str, Any]:
    return {} if m.weight is None else {'num_channels': m.weight.shape[0]}


@layer_attributes(nn.PReLU)
def _prelu(m: Any) -> dict[str, Any]:
    return {'num_parameters': m.weight.shape[0]}


@layer_attributes(nn.RNNCellBase)
def _cell(m: Any) -> dict[str, Any]:
    return {'input_size': m.weight_ih.shape[1], 'hidden_size': m.weight_hh.shape[1]}


def set_layer_attributes(module: nn.Module) -> None:
    """Bring the sizes that a layer stores in line with its parameters."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            with torch.no_grad():
                hook(module, None)  # the weight that it keeps is one of the old size
    for types, function in LAYER_ATTRIBUTES:
        if isinstance(module, types):
            for name, value in function(module).items():
                setattr(module, name, value)


def disagreement(module: nn.Module, shapes: Shapes, attributes: Mapping[str, Any]) -> tuple[str, str] | None:
    """Where a layer's parameters would not fit each other, before any is made.

    Args:
        shapes: the layer's own parameters and buffers -> their shapes in the slim model.
        attributes: those of the layer that change.

    Returns:
        The parameter or attribute at fault and what is wrong with it, or None.
    """
    if isinstance(module, nn.MultiheadAttention):
        return _attention(module, shapes, attributes)
    weight = shapes.get('weight')
    if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)):
        return _alike(shapes, ('weight', 'bias', 'running_mean', 'running_var'))
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return _alike(shapes, ('weight', 'bias'))
    if isinstance(module, nn.GroupNorm):
        groups = attributes.get('num_groups', module.num_groups)
        if weight is not None and weight[0] % groups:
            return 'weight', f'{weight[0]} channels are no multiple of {groups} groups'
        return _alike(shapes, ('weight', 'bias'))
    if weight is None:
        return None
    rows = weight[0]
    if isinstance(module, nn.modules.conv._ConvNd):
        groups = attributes.get('groups', module.groups)
        if weight[0] % groups:
            return 'weight', f'{weight[0]} channels are no multiple of {groups} groups'
        rows = weight[1] * groups if module.transposed else weight[0]
    elif not isinstance(module, nn.Linear):
        return None
    bias = shapes.get('bias')
    return None if bias in (None, (rows,)) else ('bias', f'{bias} is kept where the weight has {rows} rows')


def _alike(shapes: Shapes, names: tuple[str, ...]) -> tuple[str, str] | None:
    present = [name for name in names if name in shapes]
    for name in present[1:]:
        if shapes[name] != shapes[present[0]]:
            return name, f'{shapes[name]} is kept of it and {shapes[present[0]]} of {present[0]}'
    return None


def _attention(module: Any, shapes: Shapes, attributes: Mapping[str, Any]) -> tuple[str, str] | None:
    width, heads, each, keys, values = (
        attributes.get(name, getattr(module, name)) for name in ('embed_dim', 'num_heads', 'head_dim', 'kdim', 'vdim')
    )
    if heads * each != width:
        return 'embed_dim', f'{width} is not {heads} heads of {each}'
    expected = {
        'in_proj_weight': (3 * width, width), 'in_proj_bias': (3 * width,), 'q_proj_weight': (width, width),
        'k_proj_weight': (width, keys), 'v_proj_weight': (width, values),
    }  # fmt: skip
    for name, shape in expected.items():
        if name in shapes and shapes[name] != shape:
            return name, f'{shapes[name]} is kept of it where the attributes say {shape}'
    return None
