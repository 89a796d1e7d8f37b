"""How well a table of latencies tells what slim models take on this machine.

    python benchmarks/latency.py run --models timm/efficientnet_b0 torchvision/resnet50 --backends eager onnxruntime \\
        --batches 1 16
    python benchmarks/latency.py table --write

For each model, backend and batch: `dms measure`, then random slim models that its correction did not see, measured
twice, interleaved. Told are the median error of the prediction, its rank correlation with the measured times (their
mean), that of the MACs, and that of the two measurements with each other: where this is low, the machine is noisy, and
no prediction can do better.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _docs import ROOT, append_row, read_rows, write_block

from dms_mm import make_searchable
from dms_mm.cli.architecture import architecture_of
from dms_mm.cli.common import add_common
from dms_mm.measuring import make_backend, measure, model_call, random_structure, summary

RESULTS = ROOT / 'benchmarks/results/latency.jsonl'


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's."""
    ranks = [np.argsort(np.argsort(x)) for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def model_of(name: str, side: int | None) -> tuple:
    """Space, example and how the model is called, as `dms measure` has them."""
    parser = argparse.ArgumentParser()
    add_common(parser)
    args = parser.parse_args([name])
    args.input_shape = (3, side, side) if side else None
    model, shape, options, call = architecture_of(args)
    example = torch.zeros(2, *shape)
    return make_searchable(model, example, **{**options, 'forward_fn': call, 'verify': 'shapes'}), example, call


def measured(name: str, backend: str, batch: int, args: argparse.Namespace) -> dict:
    space, example, call = model_of(name, args.side)
    path = Path(args.folder) / f'{name.replace("/", "_")}_{backend}_{batch}.json'
    table = measure(
        space, example, path, model=name, backend=backend, device=args.device, batch=batch, threads=args.threads,
        clock=args.clock, points=args.points, models=args.fit, patience=args.patience, forward=call,
    )  # fmt: skip
    space.add_resource('latency', dict(type='Latency', table=str(path)))
    runner = make_backend(backend, args.device, batch, table.threads, args.clock)
    keeps = [random_structure(space, seed) for seed in range(args.count)]
    counts = {n: [space.counters[n].count(keep, space.bank) for keep in keeps] for n in ('latency', 'macs')}
    with torch.no_grad():
        calls = [model_call(space, keep, example, runner, call) for keep in keeps]
        rounds = [[summary(runner.seconds(c, 50 * args.patience))[0] for c in calls] for _ in range(2)]
    times = np.mean(rounds, 0).tolist()
    errors = [abs(p / t - 1) for p, t in zip(counts['latency'], times)]
    return {
        'model': name, 'side': example.shape[-1], 'backend': backend, 'batch': batch, 'threads': table.threads,
        'device': table.device_name, 'clock': args.clock, 'count': args.count, 'fastest': min(times),
        'slowest': max(times), 'error': float(np.median(errors)), 'rank': rank_correlation(counts['latency'], times),
        'rank_macs': rank_correlation(counts['macs'], times), 'rank_again': rank_correlation(*rounds),
    }  # fmt: skip


def table_of(rows: list[dict]) -> str:
    newest = {(r['model'], r['side'], r['backend'], r['batch'], r['device']): r for r in rows}
    lines = [
        '| model | input | device | backend | batch | slim models, ms | median error | rank correlation | of the MACs '
        '| measured twice |',
        '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    for r in newest.values():
        device = f'{r["device"]}, {r["threads"]} threads' + (', own time' if r['clock'] == 'cpu' else '')
        noise = ' (noise)' if r['rank_again'] < 0.95 else ''
        lines.append(
            f'| {r["model"]} | {r["side"]} px | {device} | {r["backend"]} | {r["batch"]} '
            f'| {r["count"]} of {1e3 * r["fastest"]:.2f} to {1e3 * r["slowest"]:.2f} | {r["error"]:.1%} '
            f'| {r["rank"]:.3f} | {r["rank_macs"]:.3f} | {r["rank_again"]:.3f}{noise} |'
        )
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run')
    run.add_argument('--models', nargs='+', required=True, help='timm/NAME, torchvision/NAME, or a config')
    run.add_argument('--backends', nargs='+', default=['eager'])
    run.add_argument('--batches', nargs='+', type=int, default=[1])
    run.add_argument('--device', default='cpu')
    run.add_argument('--threads', type=int)
    run.add_argument('--clock', default='wall', help='cpu: own time of one thread, where others use the machine, too')
    run.add_argument('--side', type=int, help="pixels of the input (default: the model's)")
    run.add_argument('--count', type=int, default=30, help='slim models that are predicted')
    run.add_argument('--fit', type=int, default=12, help='others, for the correction')
    run.add_argument('--points', type=int, default=7)
    run.add_argument('--patience', type=float, default=0.02)
    run.add_argument('--folder', default='work_dirs/latency', help='of the tables')
    run.add_argument('--results', type=Path, default=RESULTS)
    table = commands.add_parser('table')
    table.add_argument('--results', type=Path, default=RESULTS)
    table.add_argument('--write', action='store_true', help='put it into docs/benchmarks.md')
    args = parser.parse_args()
    if args.command == 'run':
        for name in args.models:
            for backend in args.backends:
                for batch in args.batches:
                    append_row(args.results, measured(name, backend, batch, args))
    text = table_of(read_rows(args.results))
    print(text)
    if args.command == 'table' and args.write:
        write_block('docs/benchmarks.md', 'latency', text)


if __name__ == '__main__':
    main()
