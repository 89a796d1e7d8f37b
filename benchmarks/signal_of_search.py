"""How much of what moves a search's widths is signal: each unit's gradient against its own noise, step by step.

    python benchmarks/signal_of_search.py run CONFIG [CONFIG ...]    # appends to results/signal.jsonl
    python benchmarks/signal_of_search.py table                      # into docs/benchmarks.md

The search of a config runs as it is. In each third of its steps a unit's gradient (per share of the resource, less the
mean of all units) has a mean and a standard deviation; t is the mean over its standard error. Units that are all noise
have |t| above 2 in 5% of the cases.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import torch  # noqa: E402
from _docs import append_row, read_rows, write_block  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.registry import HOOKS  # noqa: E402

from dms_mm.cli.train import train  # noqa: E402

RESULTS = ROOT / 'benchmarks/results/signal.jsonl'
SERIES: list[torch.Tensor] = []


@HOOKS.register_module()
class Record(Hook):
    """Recovers every step's value from the moving average that the search keeps of it."""

    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before = runner.model.space.bank.get_buffer('velocity').clone()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = runner.model
        if model.search.progress > model.search.warmup:
            now = model.space.bank.get_buffer('velocity')
            momentum = model.search.rule.momentum
            SERIES.append(((now - momentum * self.before) / (1 - momentum)).double())


def run(path: str, out: Path) -> None:
    hooks = [*Config.fromfile(path).custom_hooks, dict(type='mmengine.Record')]
    out.mkdir(parents=True, exist_ok=True)
    child = out / 'config.py'
    child.write_text(f'_base_ = {str(Path(path).resolve())!r}\ncustom_hooks = {[dict(h) for h in hooks]!r}\n')
    SERIES.clear()
    train([str(child), '--work-dir', str(out), '--no-validate'])
    values = torch.stack(SERIES)
    values = values - values.mean(1, keepdim=True)
    thirds = []
    for part in values.tensor_split(3):
        t = part.mean(0) / (part.std(0) / len(part) ** 0.5).clamp_min(1e-30)
        thirds.append([round(float(t.abs().median()), 1), round(100 * float((t.abs() > 2).double().mean()))])
    row = dict(config=str(Path(path).with_suffix('')), units=values.shape[1], steps=len(values), thirds=thirds)
    append_row(RESULTS, row)


def table() -> None:
    lines = [
        '| search | units | steps | median t, by third of the steps | units with t above 2 |',
        '| --- | --- | --- | --- | --- |',
    ]
    for r in read_rows(RESULTS):
        medians, shares = zip(*r['thirds'])
        lines.append(
            f'| {r["config"].removeprefix("configs/")} | {r["units"]} | {r["steps"]} '
            f'| {", ".join(map(str, medians))} | {", ".join(f"{s}%" for s in shares)} |'
        )
    write_block('docs/benchmarks.md', 'signal', '\n'.join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=['run', 'table'])
    parser.add_argument('configs', nargs='*')
    args = parser.parse_args()
    if args.command == 'table':
        table()
        return
    for path in args.configs:
        run(path, ROOT / 'work_dirs/signal' / Path(path).stem)


if __name__ == '__main__':
    main()
