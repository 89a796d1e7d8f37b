"""What a search step costs beside a plain training step: timm EfficientNet-B0, 128 px, batch 16, on this machine.

    python benchmarks/overhead.py [--steps 15] [--runs 1] [--write]

Time: medians of ratios of neighbouring steps, and of those over the processes. Memory: peak resident size of two
processes of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import timm
import torch
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _docs import write_block

from dms_mm import Search, make_searchable
from dms_mm.mutators.fold import Fold


class Trainer:
    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        self.model = timm.create_model('efficientnet_b0', num_classes=1000)
        self.search = None
        if kind != 'plain':
            space = make_searchable(self.model, torch.zeros(2, 3, 128, 128))
            self.search = Search(space, {'macs': 0.5}, 1000, warmup=0.0)
        self.stepping = kind == 'search'
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.model.train()
        self.structure = 0.0

    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        begin = time.perf_counter()
        loss = cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        middle = time.perf_counter()
        if self.search is not None and self.stepping:
            self.search.step()
        self.structure = time.perf_counter() - middle
        return time.perf_counter() - begin


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(16, 3, 128, 128), torch.randint(0, 1000, (16,))


def peak(kind: str) -> int:
    """Peak resident bytes of three steps in a fresh process."""
    code = f't = overhead.Trainer({kind!r}); b = overhead.batch(); [t.step(*b) for _ in range(3)]; '
    # Not ru_maxrss, which a child takes over from its parent.
    code += 'print([x for x in open("/proc/self/status") if x.startswith("VmHWM")][0].split()[1])'
    return int(in_process(code)) * 1024


def measured(steps: int) -> dict[str, float]:
    """Ratios to the plain step, medians of neighbouring steps."""
    trainers = {kind: Trainer(kind) for kind in ('plain', 'masks', 'search')}
    data = batch()
    times: dict[str, list[float]] = {kind: [] for kind in trainers}
    structure = []
    order = list(trainers)
    for i in range(steps + 3):
        for kind in order:
            seconds = trainers[kind].step(*data)
            if i >= 3:
                times[kind].append(seconds)
        order = order[1:] + order[:1]  # nobody always follows the same one
        if i >= 3:
            structure.append(trainers['search'].structure)

    def ratio(kind: str) -> float:
        return statistics.median(a / b for a, b in zip(times[kind], times['plain']))

    # The masks' own arithmetic: every fold once forward, alone.
    model = trainers['search'].model
    folds = [(f, m._parameters[k]) for m in model.modules() for k, f in m.__dict__.get('_dms_folds', {}).items()]
    begin = time.perf_counter()
    for fold, weight in folds:
        assert isinstance(fold, Fold)
        fold(weight)
    products = time.perf_counter() - begin
    plain = statistics.median(times['plain'])
    return {
        'search': ratio('search'), 'masks': ratio('masks'), 'structure': statistics.median(structure) / plain,
        'products': products / plain, 'plain': plain,
    }  # fmt: skip


def in_process(code: str) -> str:
    """The last line that a fresh process prints."""
    code = f'import json, overhead; {code}'
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=Path(__file__).parent)
    if run.returncode:
        raise SystemExit(run.stderr)
    return run.stdout.strip().splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=int, default=15)
    parser.add_argument('--runs', type=int, default=1, help='processes: where memory lies moves a step by a percent')
    parser.add_argument('--write', action='store_true', help='put the table into docs/benchmarks.md')
    args = parser.parse_args()
    memory = {kind: peak(kind) for kind in ('plain', 'search')}
    runs = [json.loads(in_process(f'print(json.dumps(overhead.measured({args.steps})))')) for _ in range(args.runs)]
    shares = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    least, most = (end(run['search'] for run in runs) for end in (min, max))
    lines = [
        '| part | share of the plain step |',
        '| --- | --- |',
        '| plain step | 1.000 |',
        f'| search step | {shares["search"]:.3f} ({least:.3f} to {most:.3f}) |',
        f'| step with masks, structure at rest | {shares["masks"]:.3f} |',
        f'| structure step alone (importance, ratios, budget, masks) | {shares["structure"]:.3f} |',
        f'| products of weights and masks, forward | {shares["products"]:.3f} |',
        f'| peak memory, search over plain | {memory["search"] / memory["plain"]:.3f} |',
    ]
    text = '\n'.join(lines)
    print(text, f'\n\npeak {memory}, plain step {shares["plain"]:.3f} s, threads {torch.get_num_threads()}')
    if args.write:
        write_block('docs/benchmarks.md', 'overhead', text)


if __name__ == '__main__':
    main()
