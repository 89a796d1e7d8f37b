"""YOLOv8 searched, against YOLOv8-n at equal MACs, on pasted garments: config files and tools alone.

    python tools/dataset_converters/fashion_scenes.py data/fashion_scenes
    python benchmarks/detection.py run [--seed 0 1 2] [--methods searched]    # appends to results/detection.jsonl
    python benchmarks/detection.py table                                      # into docs/benchmarks.md
    python benchmarks/detection.py tried     # recipes of the search that were given up, from detection_tried.jsonl

Both are trained from scratch by one recipe; validation is measured along the way, the test split once, at the end.
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
from demo import spread, tool  # noqa: E402

RESULTS = ROOT / 'benchmarks/results/detection.jsonl'
SEARCH = 'configs/yolov8/search_np_fashion-scenes.py'
METHODS = {
    'searched': 'configs/yolov8/retrain_fashion-scenes.py',
    'YOLOv8-n': 'configs/yolov8/train_yolov8-n_fashion-scenes.py',
    'uniform widths and depths': 'configs/yolov8/retrain_fashion-scenes.py',
}


def scalars(folder: Path) -> list[dict]:
    return [json.loads(x) for f in sorted(folder.glob('*/vis_data/scalars.json')) for x in f.read_text().splitlines()]


def plain_size() -> dict[str, int]:
    """MACs and parameters of YOLOv8-n, counted as those of a searchable model."""
    import torch
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope

    import dms_mm
    from dms_mm.models.hosts import import_scope
    from dms_mm.registry import MODELS, register_all

    register_all()
    import_scope('mmyolo')
    init_default_scope('mmyolo')
    config = Config.fromfile(ROOT / METHODS['YOLOv8-n'])
    model = revert_sync_batchnorm(MODELS.build(config.model)).eval()
    shape = Config.fromfile(ROOT / SEARCH).model.input_shape
    return dict(dms_mm.make_searchable(model, torch.zeros(1, *shape), forward_fn=tensor).supernet)


def tensor(model, x):
    return model(x, mode='tensor')


def run_one(seed: int, method: str, out: Path) -> None:
    folder = out / f'{method.replace(" ", "-")}-{seed}'
    folder.mkdir(parents=True, exist_ok=True)
    structure = folder / 'structure.json'
    options: list[str] = []
    seconds = 0.0
    if method == 'searched':
        seconds = tool(
            'train.py', SEARCH, '--work-dir', str(folder / 'search'), '--cfg-options', f'randomness.seed={seed}',
            log=folder / 'search.log',
        )  # fmt: skip
        structure = folder / 'search/structure.json'
    elif method != 'YOLOv8-n':
        seconds = tool('uniform.py', SEARCH, str(structure), '--depth', log=folder / 'uniform.log')
    if method == 'YOLOv8-n':
        size = plain_size()
    else:
        size = json.loads(structure.read_text())['resources']
        options = [f'model.structure={structure}']
    training = folder / 'retrain'
    trained = tool(
        'train.py', METHODS[method], '--work-dir', str(training), '--cfg-options', f'randomness.seed={100 + seed}',
        *options, log=folder / 'retrain.log',
    )  # fmt: skip
    checkpoint = (training / 'last_checkpoint').read_text().strip()
    tool(
        'test.py', METHODS[method], checkpoint, '--work-dir', str(folder / 'test'), '--out',
        str(folder / 'metrics.json'), *(['--cfg-options', *options] if options else []), log=folder / 'test.log',
    )  # fmt: skip
    metrics = json.loads((folder / 'metrics.json').read_text())
    curve = [100 * x['coco/bbox_mAP'] for x in scalars(training) if 'coco/bbox_mAP' in x]
    row = dict(
        seed=seed, method=method, mAP=round(100 * metrics['coco/bbox_mAP'], 1),
        mAP_50=round(100 * metrics['coco/bbox_mAP_50'], 1), curve=[round(x, 1) for x in curve], macs=size['macs'],
        params=size['params'], search_s=round(seconds), train_s=round(trained),
    )  # fmt: skip
    append_row(RESULTS, row)


def table() -> None:
    rows = read_rows(RESULTS)
    lines = [
        '| model | GMACs | params | test mAP | by seed | mAP50 | validation mAP on the way | search s | training s |',
        '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    for method in METHODS:
        runs = sorted((r for r in rows if r['method'] == method), key=lambda r: r['seed'])
        if not runs:
            continue

        def mean(key: str, runs: list[dict] = runs) -> float:
            return statistics.mean(r[key] for r in runs)

        scores = [r['mAP'] for r in runs]
        curve = [f'{statistics.mean(points):.1f}' for points in zip(*(r['curve'] for r in runs))]
        lines.append(
            f'| {method} | {mean("macs") / 1e9:.4f} | {mean("params") / 1e6:.2f}M | {spread(scores, 1)} '
            f'| {", ".join(f"{s:.1f}" for s in scores)} | {mean("mAP_50"):.1f} | {", ".join(curve)} '
            f'| {mean("search_s"):.0f} | {mean("train_s"):.0f} |'
        )
    text = '\n'.join(lines)
    print(text)
    write_block('docs/benchmarks.md', 'detection', text)


def tried() -> None:
    lines = ['| search | seed | validation mAP on the way | test mAP |', '| --- | --- | --- | --- |']
    for r in read_rows(RESULTS.with_name('detection_tried.jsonl')):
        lines.append(f'| {r["recipe"]} | {r["seed"]} | {", ".join(map(str, r["curve"]))} | {r["mAP"]} |')
    write_block('docs/benchmarks.md', 'detection-tried', '\n'.join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=['run', 'table', 'tried'])
    parser.add_argument('--seed', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--methods', nargs='+', choices=list(METHODS), default=list(METHODS))
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/detection')
    args = parser.parse_args()
    if args.command != 'run':
        {'table': table, 'tried': tried}[args.command]()
        return
    for seed in args.seed:
        for method in args.methods:
            run_one(seed, method, args.out)


if __name__ == '__main__':
    main()
