"""What can be searched in a model, and why the rest can't."""

from __future__ import annotations

import difflib
import importlib.util
import os.path as osp
from typing import Any

import torch
from mmengine.config import DictAction
from torch import nn

from ..algorithms.budget import preview, with_parts
from ..algorithms.passing import budgets_of
from ..models.hosts import import_scope
from ..registry import plain
from ..space import make_searchable
from .common import add_common, load_config, parser_of, tool

HELP = """Print the units of a model, the share of its MACs that they cover, what froze the rest, and what targets mean.

  dms inspect configs/demo/search.py              # the model of a config
  dms inspect timm/deit_tiny_patch16_224          # by name: timm/, torchvision/ or mmpretrain/
  dms inspect torchvision/swin_t --input-shape 3 224 224 --verify
  dms inspect torchvision/resnet50 --target macs=40% params=10M layer4/macs=0.3
"""
LIBRARIES = {
    'timm': 'timm.list_models()',
    'torchvision': 'torchvision.models.list_models()',
    'mmpretrain': 'mmpretrain.list_models()',
}


def build_by_name(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A model of a library without weights, and the shape of its input.

    Raises:
        ValueError: neither a config file nor a name of a known library, or a name that the library hasn't.
        ImportError: the library is not installed; says how to install it.
    """
    library, _, short = name.partition('/')
    if library not in LIBRARIES:
        raise ValueError(
            f'{name} is no config file, and no name such as timm/resnet18, torchvision/swin_t, mmpretrain/NAME'
        )
    if importlib.util.find_spec(library) is None:
        package = {'mmpretrain': 'onedl-mmpretrain'}.get(library, library)
        raise ImportError(f'{library} is not installed: pip install --no-build-isolation {package}')
    if library == 'mmpretrain':
        import_scope('mmpretrain')
    module = importlib.import_module(library)
    models = module.models if library == 'torchvision' else module
    known = models.list_models()
    if library == 'timm':
        # With the tag of a checkpoint, too.
        known += models.list_pretrained()
    if short not in known:
        begins = sorted((n for n in known if short and n.lower().startswith(short.lower())), key=len)
        near = list(dict.fromkeys(begins + difflib.get_close_matches(short, known, 5)))[:5]
        hint = f'near names: {", ".join(near)}' if near else f'{LIBRARIES[library]} gives its names'
        raise ValueError(f'{library} has no model {short!r}; {hint}')
    if library == 'timm':
        model = module.create_model(short)
        return model, tuple(getattr(model, 'default_cfg', {}).get('input_size', (3, 224, 224)))
    model = models.get_model(short, weights=None) if library == 'torchvision' else models.get_model(short)
    return model, (3, 224, 224)


def inspect(argv: list[str] | None = None) -> None:
    parser = parser_of('inspect', HELP)
    add_common(parser)
    parser.add_argument('--input-shape', type=int, nargs='+', help="of one sample (default: the config's or model's)")
    parser.add_argument(
        '--verify', choices=['numbers', 'shapes'], nargs='?', const='numbers', default='numbers',
        help='compare slim models with the masked one by numbers (the default), or by shapes alone',
    )  # fmt: skip
    parser.add_argument(
        '--target', nargs='+', action=DictAction, metavar='RESOURCE=AMOUNT',
        help="targets to try (default: the config's): macs=390M params=40%% layer4/macs=0.5",
    )  # fmt: skip
    args = parser.parse_args(argv)
    options: dict[str, Any] = {}
    target: dict[str, Any] = {}
    if osp.isfile(args.config):
        from ..algorithms.dms import space_options
        from ..models.build import build_architecture

        cfg = load_config(args)
        from mmengine.registry import init_default_scope

        init_default_scope(cfg.get('default_scope', 'mmengine'))
        model: nn.Module = build_architecture(cfg.model.get('architecture', cfg.model))
        shape = tuple(args.input_shape or cfg.model.get('input_shape', (3, 224, 224)))
        options = {'forward_fn': lambda m, x: m(x, mode='tensor'), **space_options(cfg.model.get('space'))}
        target = with_parts(plain(cfg.model.get('target', {})), plain(cfg.model.get('parts', {})))
        target = with_parts(target, plain(cfg.model.get('search', {})).get('parts') or {})
    else:
        model, shape = build_by_name(args.config)
        shape = tuple(args.input_shape or shape)
        if args.config.startswith('mmpretrain/'):
            options = {'forward_fn': lambda m, x: m(x, mode='tensor')}
    space = make_searchable(model, torch.zeros(2, *shape), verify=args.verify, **options)
    print(space.report())
    for budget in budgets_of(args.target or target):
        print(preview(space, budget))


main = tool(inspect)
