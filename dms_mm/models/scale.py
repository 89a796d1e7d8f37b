"""Supernets by factors: any architecture with its widths and depths multiplied (the paper's A.4.1 supernets)."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import nn

from ..registry import MODELS
from .build import host_scope

# Constructor arguments by what they count. Numbers of layers, numbers of channels, numbers of heads, plain factors.
DEPTHS = {'depths', 'depth', 'layers', 'num_layers', 'num_blocks', 'stage_blocks', 'depth_list', 'serial_depths'}
WIDTHS = {
    'embed_dims', 'embed_dim', 'channels', 'dims', 'base_channels', 'stem_channels', 'stem_width', 'stem_chs',
    'feedforward_channels', 'width_list', 'hidden_dims',
}  # fmt: skip
HEADS = {'num_heads', 'heads'}
WIDTH_FACTORS = {'widen_factor', 'width_factor', 'channel_multiplier', 'width_multiplier'}
DEPTH_FACTORS = {'deepen_factor', 'depth_multiplier'}
TABLES = ('arch_settings', 'arch_zoo')


def _each(value: Any, function: Callable[[Any], Any]) -> Any:
    """``function`` on a number or on every number of a (nested) sequence; anything else stays."""
    if isinstance(value, (list, tuple)):
        return type(value)(_each(v, function) for v in value)
    return value if isinstance(value, bool) or not isinstance(value, (int, float)) else function(value)


class _Factors:
    """The two factors, and which of them found something to scale."""

    def __init__(self, width: float, depth: float) -> None:
        self.width, self.depth = width, depth
        self.used = {'width': width == 1, 'depth': depth == 1}
        self.by_factor = False

    def channels(self, value: Any, divisor: int = 8) -> Any:
        self.used['width'] = True
        # An odd given width (25 say) need not become a multiple of anything.
        return _each(value, lambda c: max(1, round(c * self.width / divisor)) * divisor if c % divisor == 0
                     else max(1, round(c * self.width)))  # fmt: skip

    def blocks(self, value: Any) -> Any:
        self.used['depth'] = True
        return _each(value, lambda d: max(1, round(d * self.depth)) if d else d)

    def times(self, value: Any, which: str) -> Any:
        self.used[which] = True
        return _each(value, lambda f: f * getattr(self, which))

    def arguments(self, given: dict[str, Any]) -> None:
        """Scale a constructor's arguments, or one entry of an ``arch`` table, in place."""
        heads = next((n for n in HEADS if isinstance(given.get(n), (int, list, tuple)) and given[n]), None)
        old = copy.deepcopy(given[heads]) if heads else None
        # Where an architecture has a factor of its own, its base widths are what that factor multiplies.
        self.by_factor |= any(n in WIDTH_FACTORS for n in given)
        if heads and self.width != 1:
            given[heads] = _each(old, lambda h: max(1, round(h * self.width)))
            one = next((given[n] for n in ('embed_dims', 'embed_dim') if isinstance(given.get(n), int)), None)
            if one is not None and isinstance(old, (list, tuple)):
                # The first stage's width is given, later ones follow by the library's rule.
                given[heads] = type(old)(h * given[heads][0] // old[0] for h in old)
        for name, value in list(given.items()):
            if name in DEPTHS:
                given[name] = self.blocks(value)
            elif name in WIDTHS and heads and self.width != 1 and name.startswith('embed_dim'):
                self.used['width'] = True
                given[name] = _with_heads(value, old, given[heads])
            elif name in WIDTHS and self.width != 1 and not self.by_factor:
                given[name] = self.channels(value)
            elif name in WIDTH_FACTORS or name in DEPTH_FACTORS:
                given[name] = self.times(value, 'width' if name in WIDTH_FACTORS else 'depth')


def _with_heads(dims: Any, old: Any, new: Any) -> Any:
    """Embedding dims for a new number of heads of the same size."""
    if isinstance(dims, (list, tuple)):
        return type(dims)(d * n // o for d, o, n in zip(dims, old, new))
    first_old, first_new = (old[0], new[0]) if isinstance(old, (list, tuple)) else (old, new)
    return dims * first_new // first_old


# -- classes whose sizes stand in a table of their own format: class name -> (factors, arguments, class) in place
def _mm_efficientnet(f: _Factors, given: dict, table: dict) -> None:
    w, d, size = table[given['arch']]
    table[given['arch']] = (f.times(w, 'width'), f.times(d, 'depth'), size)


def _mm_efficientnet_v2(f: _Factors, given: dict, table: dict) -> None:
    table[given['arch']] = [
        [n if i == 0 or e < 0 else f.blocks(n), k, s, x, f.channels(a), f.channels(b), se, e]
        for i, (n, k, s, x, a, b, se, e) in enumerate(table[given['arch']])
    ]


def _mm_resnet(f: _Factors, given: dict, table: dict) -> None:
    block, depths = table[given['depth']]
    table[given['depth']] = (block, f.blocks(tuple(depths)))
    if f.width != 1:
        for name in ('base_channels', 'stem_channels'):
            given[name] = f.channels(given[name])


def _mm_mobilenet_v2(f: _Factors, given: dict, table: list) -> None:
    given['widen_factor'] = f.times(given['widen_factor'], 'width')
    table[:] = [[t, c, f.blocks(n), s] for t, c, n, s in table]


def _timm_efficientnet(f: _Factors, given: dict, table: None) -> None:
    stages = []
    f.used['depth'] = True
    for stage in given['block_args']:
        # The family rounds its depths up.
        count = math.ceil(len(stage) * f.depth)
        stages.append([dict(b) for b in (list(stage) + [dict(stage[-1], stride=1)] * count)[:count]])
    given['block_args'] = stages
    if f.width != 1:
        rounding = given['round_chs_fn']
        base = rounding.keywords.get('multiplier', 1.0) if isinstance(rounding, partial) else 1.0
        given['round_chs_fn'] = partial(rounding, multiplier=f.times(base, 'width'))
        given['num_features'] = f.channels(given['num_features'])


def _timm_byobnet(f: _Factors, given: dict, table: None) -> None:
    cfg = given['cfg']

    def block(b: Any) -> Any:
        if isinstance(b, (list, tuple)):
            return tuple(map(block, b))
        return dataclasses.replace(b, d=f.blocks(b.d), c=int(f.channels(b.c)))

    stem = f.channels(cfg.stem_chs)
    given['cfg'] = dataclasses.replace(cfg, blocks=block(cfg.blocks), stem_chs=stem)


def _timm_regnet(f: _Factors, given: dict, table: None) -> None:
    cfg = given['cfg']
    depth = f.blocks(cfg.depth)
    # Widths grow by wa from block to block.
    slope = f.times(cfg.wa, 'width') * cfg.depth / depth
    given['cfg'] = dataclasses.replace(cfg, depth=depth, w0=f.channels(cfg.w0), wa=slope)


HANDLERS: dict[tuple[str, str], Callable[[_Factors, dict, Any], None]] = {
    ('mmpretrain', 'EfficientNet'): _mm_efficientnet,
    ('mmpretrain', 'EfficientNetV2'): _mm_efficientnet_v2,
    ('mmpretrain', 'MobileNetV2'): _mm_mobilenet_v2,
    ('timm', 'EfficientNet'): _timm_efficientnet,
    ('timm', 'ByobNet'): _timm_byobnet,
    ('timm', 'RegNet'): _timm_regnet,
}


def _handler(cls: type, table: Any, given: dict) -> Callable[[_Factors, dict, Any], None] | None:
    for base in cls.__mro__:
        found = HANDLERS.get((base.__module__.split('.')[0], base.__name__))
        if found is not None:
            return found
    if isinstance(table, dict) and isinstance(given.get('depth'), int):
        entry = table.get(given['depth'])
        # ResNet and its kin: the name of a depth, and the blocks that it stands for.
        if isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[1], (list, tuple)):
            return _mm_resnet
    return None


@contextlib.contextmanager
def scaled_constructor(cls: type, factors: _Factors) -> Iterator[None]:
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
        handler = _handler(cls, table, given)
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
    factors = _Factors(width, depth)
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
            'add its argument to the tables of dms_mm/models/scale.py'
        )
    return model


MODELS.register_module(module=Scaled)
