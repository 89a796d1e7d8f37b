"""Searched against uniformly scaled, for the shapes of ResNet, EfficientNet and DeiT, by config files and tools alone.

    python benchmarks/families.py run [--family deit] [--seed 0]     # appends to results/families.jsonl
    python benchmarks/families.py table                              # into docs/benchmarks.md

Both structures of a seed are retrained from scratch by the same config; the search takes a tenth of its iterations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
from _docs import append_row, read_rows, write_block  # noqa: E402
from demo import accuracy, spread, tool  # noqa: E402

RESULTS = ROOT / 'benchmarks/results/families.jsonl'
FAMILIES = ('resnet', 'efficientnet', 'deit')
METHODS = {'searched': None, 'uniform widths': [], 'uniform widths and depths': ['--depth']}


def run_one(family: str, seed: int, method: str, out: Path) -> None:
    folder = out / f'{family}-{seed}-{method.replace(" ", "-")}'
    folder.mkdir(parents=True, exist_ok=True)
    search = f'configs/fashion_mnist/search_{family}.py'
    flags = METHODS[method]
    if flags is None:
        options = ['--work-dir', str(folder / 'search'), '--cfg-options', f'randomness.seed={seed}']
        seconds = tool('train.py', search, *options, log=folder / 'search.log')
        path = folder / 'search/structure.json'
    else:
        path = folder / 'structure.json'
        seconds = tool('uniform.py', search, str(path), *flags, log=folder / 'uniform.log')
    retraining = tool(
        'train.py', f'configs/fashion_mnist/retrain_{family}.py', '--work-dir', str(folder / 'retrain'),
        '--cfg-options', f'model.structure={path}', f'randomness.seed={100 + seed}',
        'val_dataloader.batch_size=1000', 'train_cfg.val_interval=3000', log=folder / 'retrain.log',
    )  # fmt: skip
    structure = json.loads(path.read_text())
    row = dict(
        family=family, seed=seed, method=method, accuracy=round(accuracy(folder / 'retrain'), 2),
        macs=structure['resources']['macs'], params=structure['resources']['params'],
        supernet=structure['supernet']['macs'], search_s=round(seconds, 1), retrain_s=round(retraining, 1),
    )  # fmt: skip
    append_row(RESULTS, row)


def table() -> None:
    rows = read_rows(RESULTS)
    lines = [
        '| supernet | MACs | structure | test accuracy | by seed | params | search s | retrain s |',
        '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    for family in FAMILIES:
        for method in METHODS:
            runs = [r for r in rows if (r['family'], r['method']) == (family, method)]
            if not runs:
                continue
            scores = [r['accuracy'] for r in sorted(runs, key=lambda r: r['seed'])]

            def mean(key: str, runs: list[dict] = runs) -> float:
                return statistics.mean(r[key] for r in runs)

            lines.append(
                f'| {family} {runs[0]["supernet"] / 1e6:.1f}M | {mean("macs") / 1e6:.2f}M | {method} '
                f'| {spread(scores, 2)} | {", ".join(f"{s:.2f}" for s in scores)} '
                f'| {mean("params") / 1000:,.0f}k | {mean("search_s"):.0f} | {mean("retrain_s"):.0f} |'
            )
    text = '\n'.join(lines)
    print(text)
    write_block('docs/benchmarks.md', 'families', text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=['run', 'table'])
    parser.add_argument('--family', nargs='+', choices=FAMILIES, default=FAMILIES)
    parser.add_argument('--seed', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--methods', nargs='+', choices=list(METHODS), default=list(METHODS))
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/families')
    args = parser.parse_args()
    if args.command == 'table':
        table()
        return
    for seed in args.seed:
        for family in args.family:
            for method in args.methods:
                run_one(family, seed, method, args.out)


if __name__ == '__main__':
    main()
