#!/usr/bin/env python
"""The main job on real images: search and retrain, beside uniform scaling to the same MACs with the same retraining.

    python tools/demo.py [--data digits|fashion-mnist] [--seeds 0 1 2] [--out work_dirs/demo]

Runs tools/train.py and tools/uniform.py on configs/demo, prints one table, and writes it with the pictures to --out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dms_mm.progress import Progress  # noqa: E402

SHOWN = {'loss': 'loss', 'macs': 'MACs', 'accuracy/top1': 'accuracy'}  # of what a training logs


def tool(name: str, *args: str, log: Path, stage: str = '', steps: int = 0) -> float:
    """Run a tool, its output in a log, with a progress bar of what its training logs; returns seconds.

    Args:
        stage: what is said beside the bar.
        steps: iterations of the training; 0 for a tool that trains nothing.
    """
    begin = time.time()
    folder = Path(args[args.index('--work-dir') + 1]) if '--work-dir' in args else log.parent
    with open(log, 'w') as file, Progress(stage or name, steps, patience=0.0) as progress:
        command = [sys.executable, str(ROOT / 'tools' / name), *args]
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
            done, numbers = logged(folder, begin) if steps else (0, {})
            progress.at(steps if process.returncode == 0 else done, **numbers)
            if process.returncode is not None:
                break
    if process.returncode:
        print(log.read_text()[-3000:], file=sys.stderr)
        raise SystemExit(f'{name} failed; its log is {log}')
    return time.time() - begin


def logged(folder: Path, since: float) -> tuple[int, dict[str, float]]:
    """The newest iteration of a run in a work directory, its loss, and the last accuracy on test images."""
    files = [f for f in folder.glob('*/vis_data/scalars.json') if f.stat().st_mtime >= since]
    if not files:
        return 0, {}
    done, numbers = 0, {}
    for line in max(files, key=lambda f: f.stat().st_mtime).read_text().splitlines():
        with contextlib.suppress(ValueError):  # a line that is being written
            entry = json.loads(line)
            done = max(done, int(entry.get('step', 0)))
            numbers |= {short: float(entry[key]) for key, short in SHOWN.items() if key in entry}
    return done, numbers


def latencies(structures: dict[str, Path | None]) -> dict[str, float]:
    """Median milliseconds of a forward with batch 1 on this CPU, in turns, so that a busy moment meets all of them."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from dms_mm.models import SlimModel
    from dms_mm.models.build import build_architecture
    from dms_mm.models.hosts import import_scope

    import_scope('mmpretrain')
    init_default_scope('mmpretrain')
    architecture = Config.fromfile(ROOT / 'configs/demo/search.py').model.architecture
    # The backbone describes itself on the console when it is built.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        models = {
            name: (SlimModel(architecture, path) if path else build_architecture(architecture)).eval()
            for name, path in structures.items()
        }
    x = torch.rand(1, 1, 28, 28)
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for _ in range(220):
            for name, model in models.items():
                begin = time.perf_counter()
                model(x)
                times[name].append(time.perf_counter() - begin)
    return {name: 1000 * statistics.median(values[20:]) for name, values in times.items()}


def accuracy(folder: Path) -> float:
    """Test accuracy at the end of a run, from the log that MMEngine writes as JSON lines."""
    lines = [json.loads(x) for f in sorted(folder.glob('*/vis_data/scalars.json')) for x in f.read_text().splitlines()]
    return [x['accuracy/top1'] for x in lines if 'accuracy/top1' in x][-1]


def one(out: Path, data: str, seed: int) -> list[dict]:
    out.mkdir(parents=True, exist_ok=True)
    options = [f'{k}.dataset.name={data}' for k in ('train_dataloader', 'val_dataloader', 'test_dataloader')]
    options += [f'randomness.seed={seed}']
    search, uniform = out / 'search', out / 'uniform.json'
    searching = tool(
        'train.py', 'configs/demo/search.py', '--work-dir', str(search), '--cfg-options', *options,
        log=out / 'search.log', stage=f'seed {seed}, search', steps=steps('search'),
    )  # fmt: skip
    tool(
        'uniform.py',
        'configs/demo/search.py',
        str(uniform),
        '--depth',
        log=out / 'uniform.log',
        stage=f'seed {seed}, uniform',
    )
    rows = []
    for name, structure, seconds in (
        ('searched (DMS_np)', search / 'structure.json', searching),
        ('uniformly scaled', uniform, 0.0),
    ):
        folder = out / name.split()[0]
        again = [*options, f'model.structure={structure}', f'train_cfg.val_interval={steps("retrain") // 3}']
        retraining = tool(
            'train.py', 'configs/demo/retrain.py', '--work-dir', str(folder), '--cfg-options', *again,
            log=out / f'{folder.name}.log', stage=f'seed {seed}, retrain {folder.name}', steps=steps('retrain'),
        )  # fmt: skip
        found = json.loads(structure.read_text())
        rows.append(
            dict(
                name=name, seed=seed, macs=found['resources']['macs'], params=found['resources']['params'],
                supernet=found['supernet'], accuracy=accuracy(folder), search=seconds, retrain=retraining,
            )
        )  # fmt: skip
    took = latencies({'supernet': None, rows[0]['name']: search / 'structure.json', rows[1]['name']: uniform})
    return [{**row, 'latency': took[row['name']], 'latency_supernet': took['supernet']} for row in rows]


def steps(kind: str) -> int:
    """Iterations of a config of the demo."""
    from mmengine.config import Config

    return int(Config.fromfile(ROOT / f'configs/demo/{kind}.py').train_cfg.max_iters)


def fashion_mnist() -> bool:
    from dms_mm.datasets.small_images import load_images

    try:
        load_images('fashion-mnist', 'test')
    except ValueError:
        return False
    return True


def spread(values: list[float], digits: int) -> str:
    text = f'{statistics.mean(values):.{digits}f}'
    return text if len(values) == 1 else f'{text} ± {statistics.stdev(values):.{digits}f}'


def table(rows: list[dict]) -> str:
    full = rows[0]['supernet']
    lines = [
        '| model | MACs | params | test accuracy | search s | retrain s | latency ms |',
        '| --- | --- | --- | --- | --- | --- | --- |',
        f'| supernet | {full["macs"]:,} | {full["params"]:,} | | | '
        f'| {statistics.mean(r["latency_supernet"] for r in rows):.2f} |',
    ]
    for name in dict.fromkeys(r['name'] for r in rows):
        mine = [r for r in rows if r['name'] == name]
        lines.append(
            f'| {name} | {statistics.mean(r["macs"] for r in mine):,.0f} '
            f'| {statistics.mean(r["params"] for r in mine):,.0f} | {spread([r["accuracy"] for r in mine], 2)} '
            f'| {statistics.mean(r["search"] for r in mine):.0f} | {statistics.mean(r["retrain"] for r in mine):.0f} '
            f'| {statistics.mean(r["latency"] for r in mine):.2f} |'
        )
    return '\n'.join(lines) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', choices=['digits', 'fashion-mnist'], default='digits')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--out', default='work_dirs/demo')
    parser.add_argument('--write', action='store_true', help='put the table into README.md')
    args = parser.parse_args()
    out = Path(args.out).resolve()
    if args.data == 'digits' and fashion_mnist():
        print('Fashion-MNIST is installed: --data fashion-mnist takes all of its images\n')
    begin = time.time()
    rows = [row for seed in args.seeds for row in one(out / f'{args.data}-{seed}', args.data, seed)]
    text = table(rows)
    (out / f'{args.data}.md').write_text(text)
    (out / f'{args.data}.json').write_text(json.dumps(rows, indent=1) + '\n')
    print(f'\n{args.data}, {time.time() - begin:.0f} s in all\n\n{text}')
    from dms_mm import Structure
    from dms_mm.visualization import plot_widths

    for seed in args.seeds:
        folder = out / f'{args.data}-{seed}'
        plot_widths(Structure.load(folder / 'uniform.json'), folder / 'uniform.png', 'uniformly scaled')
        os.replace(folder / 'search' / 'widths.png', folder / 'searched.png')
    if args.write:
        sys.path.insert(0, str(ROOT / 'benchmarks'))
        from _docs import write_block

        write_block('README.md', f'demo-{args.data}', text)
    print(f'pictures: {out}/{args.data}-*/searched.png and uniform.png')


if __name__ == '__main__':
    main()
