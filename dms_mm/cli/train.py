"""Search, retrain or pretrain by a config."""

from __future__ import annotations

import argparse

import torch
from mmengine.config import Config

from ..engine.checkpoint import latest_checkpoint
from ..engine.structure_loop import StructureLoop
from ..models.checkpoint import read_checkpoint
from .common import add_common, build_runner, load_config, parser_of, prepare_launch, tool, training

HELP = """Train by a config: a search (model.type='dms_mm.DMS'), a retrain of what it found
(model.type='dms_mm.SlimModel'), or any MMPretrain, MMDetection or MMYOLO config as it is.

  search    python tools/train.py configs/demo/search.py --work-dir work_dirs/search
            writes structure.json, slim.pth, units.md and widths.png to the work dir
  retrain   python tools/train.py configs/demo/retrain.py \\
                --cfg-options model.structure=work_dirs/search/structure.json
  resume    add --resume (latest checkpoint of the work dir) or --resume FILE
  8 GPUs    tools/dist_train.sh CONFIG 8        slurm: tools/slurm_train.sh PARTITION JOB CONFIG
"""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = parser_of('train', HELP)
    add_common(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from a checkpoint; without a file, from the latest one in the work dir, if there is one',
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    add_switches(parser)
    return parser.parse_args(argv)


def add_switches(parser: argparse.ArgumentParser) -> None:
    """What every command that trains lets one switch on."""
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size')


def train(argv: list[str] | None = None) -> None:
    args = parse(argv)
    cfg = load_config(args)
    prepare_training(cfg, args)
    prepare_launch(cfg)
    runner = build_runner(cfg)
    training(runner.train)


def prepare_training(cfg: Config, args: argparse.Namespace) -> None:
    """Merge the command line's switches into a config, and add the hooks of this toolbox, in place."""
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        if not torch.cuda.is_available():
            raise ValueError('--amp needs a GPU; none is visible')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ValueError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config')
        cfg.auto_scale_lr.enable = True
    if args.resume:
        path = latest_checkpoint(cfg.work_dir) if args.resume == 'auto' else args.resume
        cfg.resume = path is not None
        cfg.load_from = _check_resume(path) if path else cfg.get('load_from')
    if cfg.get('train_cfg', {}).get('type') in ('StructureLoop', 'dms_mm.StructureLoop'):
        StructureLoop.check(cfg.train_cfg)
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint')
    if checkpoint and checkpoint.get('type') in ('CheckpointHook', 'mmengine.CheckpointHook'):
        checkpoint['type'] = 'dms_mm.CheckpointHook'
    hooks = list(cfg.get('custom_hooks') or [])
    kinds = {str(h.get('type')).rpartition('.')[2] for h in hooks}
    if cfg.model.get('type') in ('DMS', 'dms_mm.DMS'):
        if 'DMSHook' not in kinds:
            hooks.append(dict(type='dms_mm.DMSHook'))
        if 'constructor' in cfg.optim_wrapper:
            cfg.optim_wrapper.inner = cfg.optim_wrapper.constructor
            cfg.optim_wrapper.constructor = 'dms_mm.SupernetOptimWrapperConstructor'
    if 'SafeCheckpointHook' not in kinds:
        hooks.append(dict(type='dms_mm.SafeCheckpointHook'))
    cfg.custom_hooks = hooks


def _check_resume(path: str) -> str:
    state = read_checkpoint(path)
    if 'state_dict' not in state or 'meta' not in state:
        raise ValueError(f'{path} holds weights only; --resume needs a checkpoint that a runner saved')
    return path


main = tool(train)
