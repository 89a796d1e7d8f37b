"""What the supernets of configs/ cost here: MACs, parameters, tracing, a search step and its memory.

    python benchmarks/supernets.py run [--family efficientnet] [--only NAME] [--steps 5]   # results/supernets.jsonl
    python benchmarks/supernets.py table                                # into the README of every family

A step is forward, backward and optimizer on random images, on this CPU; ``step`` and ``memory`` are a search's
share of the plain training's, medians of neighbouring steps in one run and peak resident sizes of two processes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import torch  # noqa: E402
from _docs import append_row, read_rows, write_block  # noqa: E402
from mmengine.config import Config  # noqa: E402

RESULTS = ROOT / 'benchmarks/results/supernets.jsonl'
# One config of every supernet and budget, and a batch that this CPU takes.
PLAN = {
    'efficientnet': {
        'search_np_en-350': 8, 'search_np_en-b0': 8, 'search_np_en-450': 8, 'search_np_en-b1': 2, 'search_np_en-b2': 2,
        'timm/search_np_timm-en-b0': 8, 'timm/search_np_timm-en-b2': 2,
    },
    'deit': {'search_np_deit-t': 8, 'timm/search_np_timm-deit-t': 8},
    'resnet': {'search_np_r50': 4, 'search_p_r50-1.6g': 8, 'search_p-minus_r50-3g': 8},
    'mobilenetv2': {'search_np_mbv2': 8},
}  # fmt: skip


class Trainer:
    def __init__(self, name: str, searching: bool) -> None:
        from mmengine.registry import init_default_scope

        from dms_mm.models.hosts import import_scope
        from dms_mm.registry import MODELS, register_all

        logging.disable(logging.INFO)
        register_all()
        import_scope('mmpretrain')
        init_default_scope('mmpretrain')
        config = Config.fromfile(ROOT / 'configs' / f'{name}.py')
        torch.manual_seed(0)
        self.shape = config.model.input_shape
        begin = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if searching:
                # Weights don't matter here, so none are loaded; the structure of p- trains without them.
                settings = {**config.model, 'pretrained': None, 'pipeline': 'np'}
                self.model = MODELS.build({**settings, 'data_preprocessor': config.data_preprocessor})
                self.search = self.model.start_search(1000)
            else:
                architecture = {**config.model.architecture, 'data_preprocessor': config.data_preprocessor}
                self.model, self.search = MODELS.build(architecture), None
        self.seconds = time.perf_counter() - begin
        self.model.train()
        self.optimizer = torch.optim.SGD([p for p in self.model.parameters() if p.requires_grad], lr=0.01)

    def step(self, x: torch.Tensor, samples: list) -> float:
        begin = time.perf_counter()
        losses = self.model(x, samples, mode='loss')
        self.optimizer.zero_grad()
        losses['loss'].backward()
        self.optimizer.step()
        if self.search is not None:
            self.search.step()
        return time.perf_counter() - begin


def batch(shape, size: int):
    from mmpretrain.structures import DataSample

    return torch.randn(size, *shape), [DataSample().set_gt_label(i) for i in range(size)]


def peak(name: str, searching: bool, size: int) -> int:
    """Peak resident bytes of two steps in a fresh process."""
    code = (
        f'import supernets as s; t = s.Trainer({name!r}, {searching}); b = s.batch(t.shape, {size}); '
        '[t.step(*b) for _ in range(2)]; '
        'print([x for x in open("/proc/self/status") if x.startswith("VmHWM")][0].split()[1])'
    )
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=Path(__file__).parent)
    if out.returncode:
        raise SystemExit(out.stderr[-2000:])
    return int(out.stdout.split()[-1]) * 1024


def measure(family: str, name: str, size: int, steps: int) -> None:
    """Append one row to the results: giga-MACs, million parameters, seconds, and the search's shares."""
    from dms_mm.algorithms.budget import uniform_keep

    path = f'{family}/{name}'
    plain, search = Trainer(path, False), Trainer(path, True)
    data = batch(plain.shape, size)
    pairs = [(plain.step(*data), search.step(*data)) for _ in range(steps + 1)][1:]
    space = search.model.space
    target = search.search.targets['macs']
    keep = uniform_keep(space, {'macs': target}, scale_depth=True)
    params = space.counters['params'].count(keep, space.bank)
    del plain
    row = dict(
        family=family, name=name.rpartition('/')[2], gmacs=round(space.supernet['macs'] / 1e9, 2),
        mparams=round(space.supernet['params'] / 1e6, 1), units=len(space.units), target=target / 1e9,
        uniform=round(params / 1e6, 1), build=round(search.seconds), batch=size,
        plain=round(statistics.median(a for a, _ in pairs), 1),
        step=round(statistics.median(b / a for a, b in pairs), 2),
        memory=round(peak(path, True, size) / peak(path, False, size), 2),
    )  # fmt: skip
    append_row(RESULTS, row)


def table(family: str) -> None:
    rows = read_rows(RESULTS)
    lines = [
        '| config | supernet GMACs | params M | units | target GMACs | params M, uniform | build s | batch '
        '| plain step s | step | memory |',
        '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    for r in rows:
        if r['family'] == family:
            lines.append(
                f'| {r["name"]} | {r["gmacs"]:.2f} | {r["mparams"]:.1f} | {r["units"]} | {r["target"]:g} '
                f'| {r["uniform"]:.1f} | {r["build"]} | {r["batch"]} | {r["plain"]:.1f} | {r["step"]:.2f} '
                f'| {r["memory"]:.2f} |'
            )
    write_block(f'configs/{family}/README.md', 'measured', '\n'.join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=['run', 'table'])
    parser.add_argument('--family', nargs='+', choices=list(PLAN), default=list(PLAN))
    parser.add_argument('--only', nargs='+', help='names of configs')
    parser.add_argument('--steps', type=int, default=5)
    args = parser.parse_args()
    for family in args.family:
        if args.command == 'table':
            table(family)
            continue
        for name, size in PLAN[family].items():
            if not args.only or name.rpartition('/')[2] in args.only:
                measure(family, name, size, args.steps)


if __name__ == '__main__':
    main()
