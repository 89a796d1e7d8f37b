"""Supernets by factors: any architecture with its widths and depths multiplied (the paper's A.4.1 supernets)."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import nn

from ..registry import MODELS
from .build import host_scope
from .factors import TABLES, WIDTH_FACTORS, Factors, handler_of


# Constructor arguments by what they count. Numbers of layers, numbers of channels, numbers of heads, plain factors.
@contextlib.contextmanager
def scaled_constructor(cls: type, factors: Factors) -> Iterator[None]:
    """While inside, objects of ``cls`` are built with scaled arguments; subclasses' own calls of it are left alone."""
    original = cls.__init__
    signature = inspect.signature(original)
    tables = {n: getattr(cls, n) for n in TABLES if hasattr(cls, n)}

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is not cls or '_dms_scaled' in self.__dict__:
            original(self, *args, **kwargs)
            return
        object.__setattr__(self, '_dms_scaled', True)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        factors.by_factor = False
        extra = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), None)
        table = copy.deepcopy(next(iter(tables.values()), None))
        handler = handler_of(cls, table, given)
        own = [n for n in vars(cls) if n in tables]
        try:
            if handler is not None:
                handler(factors, given, table)
            else:
                arch = given.get('arch')
                if isinstance(arch, str) and isinstance(table, dict) and isinstance(table.get(arch), dict):
                    factors.arguments(table[arch])
                elif isinstance(arch, dict):
                    given['arch'] = copy.deepcopy(arch)
                    factors.arguments(given['arch'])
                factors.arguments(given)
                if extra:
                    factors.arguments(given[extra])
            for name in tables:
                setattr(cls, name, table)
            original(*bound.args, **bound.kwargs)
        finally:
            for name, value in tables.items():
                if name in own:
                    setattr(cls, name, value)
                elif name in vars(cls):
                    delattr(cls, name)
            self.__dict__.pop('_dms_scaled', None)

    had = '__init__' in vars(cls)
    cls.__init__ = init  # type: ignore[misc]
    try:
        yield
    finally:
        if had:
            cls.__init__ = original  # type: ignore[misc]
        else:
            del cls.__init__


def _configs(config: Any) -> Iterator[dict]:
    """Every entry with a type below a model's config, the parts that compute no features left out."""
    if isinstance(config, dict):
        if 'type' in config:
            yield config
        for key, value in config.items():
            if key in ('backbone', 'neck', 'bbox_head', 'head_module', 'head', 'model'):
                yield from _configs(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _configs(value)


def _classes(architecture: dict) -> list[type]:
    found = []
    for entry in _configs(architecture):
        if 'model_name' in entry:
            import timm

            options = {k: v for k, v in entry.items() if k in ('features_only', 'img_size')}
            model = timm.create_model(entry['model_name'], **options)
            found.append(type(getattr(model, 'model', model) if options.get('features_only') else model))
            continue
        with MODELS.switch_scope_and_registry(entry.get('_scope_')) as registry:
            cls = entry['type'] if inspect.isclass(entry['type']) else registry.get(entry['type'])
        # A module that holds the others as configs takes no sizes itself.
        if inspect.isclass(cls) and not any(isinstance(entry.get(k), dict) for k in ('backbone', 'head_module')):
            found.append(cls)
    return list(dict.fromkeys(found))


def _channels(features: Any) -> list[int]:
    """Channels of each feature map (B, C, ...) or token (B, C) of a backbone's or neck's output."""
    last = features if isinstance(features, (list, tuple)) else [features]
    flat = [x[-1] if isinstance(x, (list, tuple)) else x for x in last]
    return [int(x.shape[1] if x.ndim in (2, 4) else x.shape[-1]) for x in flat]


def _features(config: dict, x: Any) -> Any:
    module = MODELS.build(config)
    module.eval()
    return module(x)


def _connect(architecture: dict, input_shape: Sequence[int]) -> None:
    """Give neck and head the widths that now come to them; those that scale by a factor of their own know already."""
    if 'backbone' not in architecture:
        return
    with torch.no_grad():
        x = _features(architecture['backbone'], torch.zeros(2, *input_shape))
        for part in ('neck', 'head', 'bbox_head', 'rpn_head'):
            config = architecture.get(part)
            if not isinstance(config, dict) or any(isinstance(config.get(n), float) for n in WIDTH_FACTORS):
                continue
            given = config.get('in_channels')
            channels = _channels(x)
            if isinstance(given, int):
                config['in_channels'] = channels[-1]
            elif isinstance(given, (list, tuple)):
                config['in_channels'] = channels[-len(given) :]
            if part == 'neck':
                x = _features(config, x)


def Scaled(  # noqa: N802 (named in configs like the classes beside it)
    architecture: dict,
    width: float = 1.0,
    depth: float = 1.0,
    input_shape: Sequence[int] = (3, 224, 224),
    data_preprocessor: Any = None,
) -> BaseModel:
    """An architecture of MMPretrain, MMDetection, MMYOLO or timm with its widths and depths multiplied.

    The host library's own class is built, by its own constructor, with scaled arguments: numbers of layers, of
    channels and of heads (whose size stays), the library's own factors, or its tables of sizes. Depths are rounded
    to the nearest number of blocks, widths to multiples of 8 as far as the library doesn't round by itself. Neck
    and head of a classifier follow the new widths.

    Args:
        architecture: config of the model to scale.
        width, depth: factors, over zero; 1.5 and 2 make the paper's MobileNetV2 supernet.
        input_shape: shape of a sample, by which the widths behind the backbone are found.

    Raises:
        ValueError: a factor is not positive, or no argument of the architecture is known to count what it scales.
    """
    if width <= 0 or depth <= 0:
        raise ValueError(f'width and depth must be positive factors, got {width} and {depth}')
    architecture = copy.deepcopy(architecture)
    if data_preprocessor is not None:
        architecture.setdefault('data_preprocessor', data_preprocessor)
    factors = Factors(width, depth)
    with contextlib.ExitStack() as stack:
        stack.enter_context(host_scope(architecture))
        classes = _classes(architecture)
        for cls in classes:
            if issubclass(cls, nn.Module):
                stack.enter_context(scaled_constructor(cls, factors))
        if width != 1:
            _connect(architecture, input_shape)
        model = MODELS.build(architecture)
    missing = [name for name, used in factors.used.items() if not used]
    if missing:
        names = ', '.join(sorted(c.__name__ for c in classes))
        raise ValueError(
            f'nothing in {names} is known to count {" or ".join(missing)}; give the architecture scaled by hand, or '
            'add its argument to the tables of dms_mm/models/factors.py'
        )
    return model


MODELS.register_module(module=Scaled)
