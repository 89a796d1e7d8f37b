"""The structure of another budget, from the checkpoint of a search."""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from ..compat import format_configs_once, prepare_mmpretrain
from ..engine.results import save_weights
from ..models.checkpoint import read_checkpoint
from ..models.hosts import import_scope
from ..registry import register_all
from .common import parser_of, tool

HELP = """The structure of another budget, from what a search has learnt: its checkpoint, no training.

  dms retarget work_dirs/search/iter_400.pth --macs 0.25 --out structure.json
  dms retarget work_dirs/search/iter_400.pth --macs 0.5 --params 2e6 --weights slim.pth --out structure.json

A target of at most 1.0 is a share of the supernet. Between budgets that the search has passed widths are interpolated,
beyond them they are scaled (docs of `Search.retarget`); the nearer to one, the more the structure is what was found.
The search's config is in the checkpoint.
"""


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, dict[str, Any]]:
    parser = parser_of('retarget', HELP)
    parser.add_argument('checkpoint', help='checkpoint that a search saved')
    for name in ('macs', 'params'):
        parser.add_argument(f'--{name}', help='share of the supernet or count')
    parser.add_argument(
        '--target', nargs='+', default=[], metavar='NAME=VALUE', help='any other resource that the config names'
    )
    parser.add_argument('--out', default='structure.json', help='structure file to write (default: structure.json)')
    parser.add_argument('--weights', help='also write the slim weights, a plain state_dict, to this file')
    args = parser.parse_args(argv)
    target = {name: getattr(args, name) for name in ('macs', 'params') if getattr(args, name) is not None}
    for entry in args.target:
        name, found, value = entry.partition('=')
        if not found:
            raise ValueError(f'--target takes NAME=VALUE, not {entry!r}')
        target[name] = value
    if not target:
        raise ValueError('no target: give for example --macs 0.25')
    return args, {name: _number(value) for name, value in target.items()}


def _number(value: str) -> Any:
    """A number, or what the target reads by itself."""
    try:
        return float(value)
    except ValueError:
        return value


def retarget(argv: list[str] | None = None) -> None:
    args, target = parse(argv)
    begin = time.time()
    model = searched_model(args.checkpoint)
    structure = model.search.retarget(target)
    structure.save(args.out)
    if args.weights:
        save_weights(model.space.slim(structure=structure), args.weights)
    found = ', '.join(f'{k} {v:,} of {structure.supernet[k]:,}' for k, v in structure.resources.items())
    written = args.out + (f' and {args.weights}' if args.weights else '')
    print(f'{found}; written to {written} in {time.time() - begin:.1f} s')


def searched_model(path: str) -> Any:
    """The :class:`~dms_mm.algorithms.DMS` model of a search's checkpoint, with what the search has learnt.

    Raises:
        ValueError: the file is no checkpoint of a search.
    """
    state = read_checkpoint(path)
    text = state.get('meta', {}).get('cfg')
    weights = {k: v for k, v in state.get('state_dict', {}).items() if k.startswith(('architecture.', 'structure.'))}
    if not text or not any(k.startswith('structure.') for k in weights):
        raise ValueError(f'{path} is no checkpoint of a search, which holds its config and its structure')
    prepare_mmpretrain()
    format_configs_once()
    register_all()
    cfg = Config.fromstring(text, '.py')
    import_scope(cfg.get('default_scope'))
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    given = cfg.model
    if given.get('type') not in ('DMS', 'dms_mm.DMS'):
        raise ValueError(f'{path} is no checkpoint of a search: its model is {given.get("type")}')
    # Weights come from the checkpoint, and nothing is trained.
    given.update(pipeline='np', pretrained=None, distillation=None)
    if cfg.get('data_preprocessor') is not None:
        given.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(given)
    with torch.no_grad():
        missing, unexpected = model.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise ValueError(f'checkpoint {path} does not fit its config: key {[*missing, *unexpected][0]!r}')
    return model


main = tool(retarget)
