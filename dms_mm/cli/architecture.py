"""The model that a command is for, by a config or by its name in a library."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import os.path as osp
from collections.abc import Callable
from typing import Any, NamedTuple

from mmengine.config import Config
from torch import Tensor, nn

from ..models.detection import tensor_forward
from ..models.hosts import import_scope
from .common import load_config

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


class Subject(NamedTuple):
    """A model, the shape of a sample, options of its space, how it is called, and the config that names it, if any."""

    model: nn.Module
    shape: tuple[int, ...]
    options: dict[str, Any]
    call: Callable[[nn.Module, Tensor], Any]
    config: Config | None


def plain_call(model: nn.Module, x: Tensor) -> Any:
    return model(x)


def architecture_of(args: argparse.Namespace) -> Subject:
    """What ``args.config`` names, for samples of ``args.input_shape`` where that is given."""
    if not osp.isfile(args.config):
        model, shape = build_by_name(args.config)
        call = tensor_forward if args.config.startswith('mmpretrain/') else plain_call
        return Subject(model, tuple(args.input_shape or shape), {}, call, None)
    from ..algorithms.dms import space_options
    from ..models.build import build_architecture

    cfg = load_config(args)
    from mmengine.registry import init_default_scope

    init_default_scope(cfg.get('default_scope', 'mmengine'))
    built = build_architecture(cfg.model.get('architecture', cfg.model))
    shape = tuple(args.input_shape or cfg.model.get('input_shape', (3, 224, 224)))
    return Subject(built, shape, space_options(cfg.model.get('space')), tensor_forward, cfg)
