"""The model that a command is for, by a config or by its name in a library."""

from __future__ import annotations

import argparse
import os.path as osp
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .common import load_config
from .inspect import build_by_name


def tensor_mode(model: nn.Module, x: Tensor) -> Any:
    """How MMEngine's models are called for their tensors."""
    return model(x, mode='tensor')


def plain_call(model: nn.Module, x: Tensor) -> Any:
    return model(x)


def architecture_of(
    args: argparse.Namespace,
) -> tuple[nn.Module, tuple[int, ...], dict[str, Any], Callable[[nn.Module, Tensor], Any]]:
    """A model, the shape of a sample, options of its space (without resources), and how it is called."""
    if not osp.isfile(args.config):
        model, shape = build_by_name(args.config)
        call = tensor_mode if args.config.startswith('mmpretrain/') else plain_call
        return model, tuple(args.input_shape or shape), {}, call
    from ..algorithms.dms import space_options
    from ..models.build import build_architecture

    cfg = load_config(args)
    from mmengine.registry import init_default_scope

    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = build_architecture(cfg.model.get('architecture', cfg.model))
    options = space_options(cfg.model.get('space'))
    options.pop('resources', None)  # tables that are not there yet
    return model, tuple(args.input_shape or cfg.model.get('input_shape', (3, 224, 224))), options, tensor_mode
