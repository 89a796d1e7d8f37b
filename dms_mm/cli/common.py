"""What the tools share: configs, launchers, and errors as one line."""

from __future__ import annotations

import argparse
import os
import os.path as osp
import sys
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.hub import get_config
from mmengine.registry import RUNNERS, DefaultScope
from mmengine.runner import Runner
from mmengine.utils import is_installed

from ..compat import format_configs_once, prepare_mmpretrain
from ..models.hosts import import_scope
from ..registry import register_all
from ..slimming import StructureError
from ..tracing import TraceError

# What a user can cause and cure: shown as one line. Anything else is a bug and keeps its traceback.
USER_ERRORS = (ValueError, KeyError, TypeError, StructureError, TraceError, ImportError, OSError)


def parser_of(command: str, description: str) -> argparse.ArgumentParser:
    """The parser of a command, which is called by ``dms COMMAND`` or by its script in tools/."""
    script = {'inspect': 'inspect_model'}.get(command, command)
    called = osp.basename(sys.argv[0]) == f'{script}.py'
    return argparse.ArgumentParser(
        prog=f'tools/{script}.py' if called else f'dms {command}',
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder of logs, checkpoints and results (default: work_dirs/CONFIG)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings that override the config, as key=value: model.target.macs=0.3 train_cfg.max_epochs=5',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes were started; tools/dist_train.sh and tools/slurm_train.sh set it',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """The config with the command line's settings merged, its host library imported, defaults filled in.

    Raises:
        ValueError: the file is missing or no valid config.
    """
    if 'LOCAL_RANK' not in os.environ:
        os.environ['LOCAL_RANK'] = str(args.local_rank)
    # Before `custom_imports` of the config, which may name mmpretrain.
    prepare_mmpretrain()
    format_configs_once()
    cfg = _read(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    register_all()
    import_scope(cfg.get('default_scope'))
    for field in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(field) is not None:
            _dataloader_defaults(cfg, field)
    return cfg


def _read(path: str) -> Config:
    """A config file, or ``package::family/config.py`` of an installed package."""
    package, inside, _ = path.partition('::')
    if inside and is_installed(package):
        cfg = get_config(path)
    elif not inside and osp.isfile(path):
        cfg = Config.fromfile(path)
    else:
        raise ValueError(f'config {path} does not exist')
    _drop_scope(cfg._cfg_dict)
    return cfg


def _drop_scope(value: Any) -> None:
    """Remove the scope that inheritance by ``dms_mm::`` adds: the toolbox's configs name libraries in every type."""
    if isinstance(value, dict):
        if value.get('_scope_') == 'dms_mm':
            del value['_scope_']
        value = list(value.values())
    for entry in value if isinstance(value, (list, tuple)) else ():
        _drop_scope(entry)


def _dataloader_defaults(cfg: Config, field: str) -> None:
    given = cfg[field]
    if cfg.get('default_scope') == 'mmpretrain':
        defaults = ConfigDict(collate_fn=dict(type='default_collate'), pin_memory=torch.cuda.is_available())
        defaults.persistent_workers = given.get('num_workers', 0) > 0
        defaults.update(given)
        cfg[field] = defaults
    collate = cfg[field].get('collate_fn')
    if isinstance(collate, dict) and '_scope_' in collate:
        # Inherited from a library's config; the runner would hand it on to the function.
        del collate['_scope_']
    if cfg[field].get('num_workers', 0) == 0:
        cfg[field]['persistent_workers'] = False


def prepare_launch(cfg: Config) -> None:
    """Join the process group on machines without a GPU; MMEngine's launcher would set a CUDA device there."""
    if cfg.launcher == 'none' or torch.cuda.is_available():
        return
    if cfg.launcher == 'slurm':
        os.environ.setdefault('RANK', os.environ['SLURM_PROCID'])
        os.environ.setdefault('WORLD_SIZE', os.environ['SLURM_NTASKS'])
        os.environ.setdefault('MASTER_PORT', '29500')
        os.environ.setdefault('MASTER_ADDR', os.environ.get('SLURM_LAUNCH_NODE_IPADDR', '127.0.0.1'))
    elif cfg.launcher == 'mpi':
        os.environ.setdefault('RANK', os.environ['OMPI_COMM_WORLD_RANK'])
        os.environ.setdefault('WORLD_SIZE', os.environ['OMPI_COMM_WORLD_SIZE'])
    torch.distributed.init_process_group('gloo')
    if cfg.get('model_wrapper_cfg') is None:
        cfg.model_wrapper_cfg = dict(type='dms_mm.CPUDistributedDataParallel')
    cfg.setdefault('env_cfg', {}).setdefault('dist_cfg', {})['backend'] = 'gloo'


def build_runner(cfg: Config) -> Runner:
    return Runner.from_cfg(cfg) if cfg.get('runner_type') is None else RUNNERS.build(cfg)


def tool(main: Callable[[list[str] | None], Any]) -> Callable[[list[str] | None], int]:
    """Wrap a tool: a user's error becomes one line on stderr and exit status 2, before training starts."""

    def run(argv: list[str] | None = None) -> int:
        scope = DefaultScope.get_current_instance()
        try:
            main(argv)
        except USER_ERRORS as error:
            if os.environ.get('DMS_TRACEBACK') or getattr(error, '__dms_training__', False):
                raise
            print(f'error: {one_line(error)}', file=sys.stderr)
            return 2
        finally:
            if scope is None and torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        return 0

    return run


def one_line(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return ' '.join(text.split()) or type(error).__name__


def training(function: Callable[[], Any]) -> Any:
    """Run the training itself: an error in it is no wrong setting and keeps its traceback."""
    try:
        return function()
    except Exception as error:
        error.__dms_training__ = True  # type: ignore[attr-defined]
        raise
