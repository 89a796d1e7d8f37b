"""What of an architecture's arguments counts widths and depths, and how it is multiplied."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

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


class Factors:
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
def _mm_efficientnet(f: Factors, given: dict, table: dict) -> None:
    w, d, size = table[given['arch']]
    table[given['arch']] = (f.times(w, 'width'), f.times(d, 'depth'), size)


def _mm_efficientnet_v2(f: Factors, given: dict, table: dict) -> None:
    table[given['arch']] = [
        [n if i == 0 or e < 0 else f.blocks(n), k, s, x, f.channels(a), f.channels(b), se, e]
        for i, (n, k, s, x, a, b, se, e) in enumerate(table[given['arch']])
    ]


def _mm_resnet(f: Factors, given: dict, table: dict) -> None:
    block, depths = table[given['depth']]
    table[given['depth']] = (block, f.blocks(tuple(depths)))
    if f.width != 1:
        for name in ('base_channels', 'stem_channels'):
            given[name] = f.channels(given[name])


def _mm_mobilenet_v2(f: Factors, given: dict, table: list) -> None:
    given['widen_factor'] = f.times(given['widen_factor'], 'width')
    table[:] = [[t, c, f.blocks(n), s] for t, c, n, s in table]


def _timm_efficientnet(f: Factors, given: dict, table: None) -> None:
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


def _timm_byobnet(f: Factors, given: dict, table: None) -> None:
    cfg = given['cfg']

    def block(b: Any) -> Any:
        if isinstance(b, (list, tuple)):
            return tuple(map(block, b))
        return dataclasses.replace(b, d=f.blocks(b.d), c=int(f.channels(b.c)))

    stem = f.channels(cfg.stem_chs)
    given['cfg'] = dataclasses.replace(cfg, blocks=block(cfg.blocks), stem_chs=stem)


def _timm_regnet(f: Factors, given: dict, table: None) -> None:
    cfg = given['cfg']
    depth = f.blocks(cfg.depth)
    # Widths grow by wa from block to block.
    slope = f.times(cfg.wa, 'width') * cfg.depth / depth
    given['cfg'] = dataclasses.replace(cfg, depth=depth, w0=f.channels(cfg.w0), wa=slope)


HANDLERS: dict[tuple[str, str], Callable[[Factors, dict, Any], None]] = {
    ('mmpretrain', 'EfficientNet'): _mm_efficientnet,
    ('mmpretrain', 'EfficientNetV2'): _mm_efficientnet_v2,
    ('mmpretrain', 'MobileNetV2'): _mm_mobilenet_v2,
    ('timm', 'EfficientNet'): _timm_efficientnet,
    ('timm', 'ByobNet'): _timm_byobnet,
    ('timm', 'RegNet'): _timm_regnet,
}


def handler_of(cls: type, table: Any, given: dict) -> Callable[[Factors, dict, Any], None] | None:
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
