"""Retrain or evaluate the structures of all budgets that a search passed."""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import json
import os
import os.path as osp
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from ..registry import unknown
from ..slimming import Structure
from ..visualization import plot_sweep, sweep_table
from .common import add_common, build_runner, load_config, parser_of, prepare_launch, tool, training
from .train import add_switches, prepare_training

HELP = """Retrain each structure that a search passed (target=dict(macs=[0.5, 0.3, 0.2])), by the config of one
retraining; or evaluate them with the weights that the search left, where it kept those (pipeline 'p-').

  dms sweep configs/demo/retrain.py --search work_dirs/search --work-dir work_dirs/sweep
  dms sweep configs/resnet/finetune_r50-1g.py --search work_dirs/search --evaluate

Takes every structure*.json in --search, those of `dms retarget` too; where the config starts from weights
(`model.checkpoint`), each starts from its own slim*.pth beside it. Every budget has a folder of its own in the work
dir, what is done is not done again, and an interrupted run goes on; a folder with a run of something else is refused.
Writes sweep.json, sweep.md (a table), sweep.png.
"""
NAMES = 'structure*.json'
BEGUN = 'run.sha256'
# Of a config, what is about where and how a run is started.
ELSEWHERE = (
    'work_dir',
    'experiment_name',
    'launcher',
    'resume',
    'load_from',
    'model_wrapper_cfg',
    'env_cfg',
    'visualizer',
)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = parser_of('sweep', HELP)
    add_common(parser)
    parser.add_argument('--search', help="work dir of the search (default: that of the config's `model.structure`)")
    parser.add_argument('--evaluate', action='store_true', help='train nothing: evaluate the slim weights as they are')
    parser.add_argument('--metric', help='that the table and the picture show (default: the first of the evaluation)')
    parser.add_argument('--resource', default='macs', help='that the picture shows (default: macs)')
    add_switches(parser)
    return parser.parse_args(argv)


def sweep(argv: list[str] | None = None) -> None:
    args = parse(argv)
    cfg = load_config(args)
    if cfg.model.get('type') not in ('SlimModel', 'dms_mm.SlimModel'):
        raise ValueError(f'{args.config} is no retrain config: its model is not of type dms_mm.SlimModel')
    folder = Path(args.search or osp.dirname(cfg.model.get('structure') or '') or '.')
    found = structures_in(folder, args.resource)
    runs = {name: run_config(cfg, args, name, path) for name, (path, _) in found.items()}
    marks = {name: _mark(run, args, found[name][1]) for name, run in runs.items()}
    known = {name: _known(run, marks[name]) for name, run in runs.items()}
    prepare_launch(cfg)
    for name, run in runs.items():
        if known[name] is None:
            for key in ('model_wrapper_cfg', 'env_cfg'):  # what the launch has set
                if cfg.get(key) is not None:
                    run[key] = cfg[key]
            known[name] = _metrics(run, args, marks[name])
    rows = [_row(name, found[name][1], known[name] or {}) for name in found]
    metric = args.metric or next(iter(rows[0]['metrics']), None)
    if metric is None:
        raise ValueError(f'the evaluation of {args.config} gave no number')
    if metric not in rows[0]['metrics']:
        raise unknown('metric', metric, rows[0]['metrics'])
    if is_main_process():
        write(rows, metric, args.resource, cfg.work_dir)


def structures_in(folder: Path, resource: str) -> dict[str, tuple[Path, Structure]]:
    """Share of the resource, as ``'0.30'`` -> structure file and structure, from the largest to the smallest.

    Raises:
        ValueError: there is none, or the resource is not counted.
    """
    found = [(path, Structure.load(path)) for path in sorted(folder.glob(NAMES))]
    if not found:
        raise ValueError(f'there is no {NAMES} in {folder}, where a search writes them; name its work dir by --search')
    for _, structure in found:
        if resource not in structure.resources:
            raise unknown('resource', resource, structure.resources)
    found.sort(key=lambda pair: -pair[1].resources[resource])
    named: dict[str, tuple[Path, Structure]] = {}
    for path, structure in found:
        name = f'{structure.resources[resource] / structure.supernet[resource]:.2f}'
        named[name if name not in named else path.stem] = path, structure
    return named


def run_config(cfg: Config, args: argparse.Namespace, name: str, path: Path) -> Config:
    """The config of one budget's run: its structure, its weights, its folder."""
    run = copy.deepcopy(cfg)
    run.work_dir = osp.join(cfg.work_dir, name)
    run.experiment_name = f'{cfg.get("experiment_name") or osp.splitext(osp.basename(args.config))[0]}_{name}'
    run.model.structure = str(path)
    if args.evaluate or run.model.get('checkpoint'):
        weights = path.with_name(path.name.replace('structure', 'slim', 1)).with_suffix('.pth')
        if not weights.exists():
            raise ValueError(f'{weights} is missing, the slim weights of {path}')
        run.model.checkpoint = str(weights)
    return run


def _mark(run: Config, args: argparse.Namespace, structure: Structure) -> str:
    """A digest of all that a run's result depends on: config, structure, weights, and whether it trains."""
    content = {k: v for k, v in run.to_dict().items() if k not in ELSEWHERE}
    model = {k: v for k, v in content['model'].items() if k not in ('structure', 'checkpoint')}
    weights = run.model.get('checkpoint')
    read = hashlib.sha256(Path(weights).read_bytes()).hexdigest() if weights else ''
    kept = {name: unit['keep'] for name, unit in structure.units.items()}
    told = repr(
        ({**content, 'model': model}, kept, structure.resources, read, args.evaluate, args.amp, args.auto_scale_lr)
    )
    return hashlib.sha256(told.encode()).hexdigest()


def _known(run: Config, mark: str) -> dict[str, float] | None:
    """The metrics of a run that is done already.

    Raises:
        ValueError: the run in this folder is another one.
    """
    begun, done = (osp.join(run.work_dir, name) for name in (BEGUN, 'result.json'))
    if not osp.exists(begun):
        return None
    if Path(begun).read_text() != mark:
        raise ValueError(
            f'{run.work_dir} has a run of another structure, config or kind: remove it, or give another --work-dir'
        )
    if not osp.exists(done):
        return None
    with open(done) as file:
        metrics: dict[str, float] = json.load(file)
    return metrics


def _metrics(run: Config, args: argparse.Namespace, mark: str) -> dict[str, float]:
    if is_main_process():
        os.makedirs(run.work_dir, exist_ok=True)
        Path(run.work_dir, BEGUN).write_text(mark)
    if args.evaluate:
        runner = build_runner(run)
        found = training(runner.test)
    else:
        from ..engine.checkpoint import latest_checkpoint

        resume = latest_checkpoint(run.work_dir)
        prepare_training(run, argparse.Namespace(**vars(args), no_validate=False, resume=resume and 'auto'))
        runner = build_runner(run)
        training(runner.train)
        found = training(runner.val)
    metrics = dict(_numbers(found))
    if is_main_process():
        path = osp.join(run.work_dir, 'result.json')
        with open(f'{path}.tmp', 'w') as file:
            json.dump(metrics, file)
        os.replace(f'{path}.tmp', path)
    return metrics


def _numbers(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        with contextlib.suppress(TypeError, ValueError):  # words, or a number for each class
            yield name, float(value)


def _row(name: str, structure: Structure, metrics: dict[str, float]) -> dict[str, Any]:
    return dict(name=name, resources=structure.resources, supernet=structure.supernet, metrics=metrics)


def write(rows: list[dict[str, Any]], metric: str, resource: str, folder: str) -> None:
    """``sweep.json``, ``sweep.md`` and ``sweep.png``."""
    os.makedirs(folder, exist_ok=True)
    with open(osp.join(folder, 'sweep.json'), 'w') as file:
        json.dump(rows, file, indent=1)
    table = sweep_table(rows, metric)
    with open(osp.join(folder, 'sweep.md'), 'w') as file:
        file.write(table)
    plot_sweep(rows, metric, resource, osp.join(folder, 'sweep.png'))
    print(f'{table}\nwritten to {folder}: sweep.json, sweep.md, sweep.png')


main = tool(sweep)
