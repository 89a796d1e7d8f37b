"""Every budget from one search: one over four budgets against four searches, and retargeting, on Fashion-MNIST.

    python benchmarks/sweep.py run --net bottleneck --seeds 0 1     searches and retrainings; goes on where it stopped
    python benchmarks/sweep.py table                                what there is, into docs/benchmarks.md

Every structure is retrained from scratch alike. Rows go to benchmarks/results/sweep.jsonl. Seconds are of the process,
not of the clock, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / 'pairs'))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import torch
from _docs import append_row, read_rows, write_block
from nets import NETS, TRAINING
from quality import accuracy, fit, load
from runs import example, hardened, searchable

from dms_mm import Search, Structure, build_slim
from dms_mm.algorithms.budget import uniform_keep
from dms_mm.algorithms.opening import open_branches

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks/results/sweep.jsonl'
STRUCTURES = ROOT / 'work_dirs/sweep'
BUDGETS = (0.3, 0.16, 0.08, 0.04)
METHODS = {
    'one': 'one search over all budgets',
    'four': 'a search for each',
    'retarget': 'retargeted from the search for the last',
    'uniform': 'uniform scaling',
}

Data = tuple[torch.Tensor, torch.Tensor]


def searched(net: str, target: Any, seed: int, data: Data) -> tuple[Search, Structure, float]:
    """A search at its end, its structure, and its seconds."""
    space, begin = searchable(net, seed), time.process_time()
    open_branches(space, example())
    epochs, _, lr = TRAINING[net]
    search = Search(space, {'macs': target}, int(epochs * (len(data[0]) // 128)))
    fit(space.model, *data, epochs, seed, lr, search)
    return search, search.finalize(), time.process_time() - begin


def one(net: str, seed: int, data: Data) -> dict[float, tuple[Structure, float]]:
    search, last, seconds = searched(net, list(BUDGETS), seed, data)
    found = [*search.passed.values(), last]
    return {budget: (structure, seconds / len(BUDGETS)) for budget, structure in zip(BUDGETS, found)}


def four_and_retargeted(net: str, seed: int, data: Data) -> dict[str, dict[float, tuple[Structure, float]]]:
    four, again = {}, {}
    for budget in BUDGETS:
        search, structure, seconds = searched(net, budget, seed, data)
        four[budget] = structure, seconds
    for budget in BUDGETS:
        begin = time.process_time()
        structure = search.retarget({'macs': budget})
        again[budget] = structure, seconds / len(BUDGETS) + time.process_time() - begin
    return dict(four=four, retarget=again)


def uniform(net: str, seed: int, data: Data) -> dict[float, tuple[Structure, float]]:
    found = {}
    for budget in BUDGETS:
        space = searchable(net, seed)
        found[budget] = hardened(space, uniform_keep(space, {'macs': budget})), 0.0
    return found


def structures_of(net: str, method: str, seed: int, data: Data) -> dict[float, tuple[Structure, float]]:
    """Budget -> structure and seconds; kept as files, so that a run that was stopped goes on."""
    folder = STRUCTURES / f'{net}-{seed}'
    told = folder / f'{method}.json'
    if not told.exists():
        if method in ('four', 'retarget'):
            made = four_and_retargeted(net, seed, data)
        else:
            made = {method: {'one': one, 'uniform': uniform}[method](net, seed, data)}
        folder.mkdir(parents=True, exist_ok=True)
        for name, found in made.items():
            for budget, (structure, _) in found.items():
                structure.save(folder / f'{name}-{budget}.json')
            (folder / f'{name}.json').write_text(json.dumps({str(b): seconds for b, (_, seconds) in found.items()}))
    seconds = json.loads(told.read_text())
    return {b: (Structure.load(folder / f'{method}-{b}.json'), seconds[str(b)]) for b in BUDGETS}


def run(net: str, seed: int, methods: list[str]) -> None:
    torch.set_num_threads(1)
    data, score = load('train'), load('test')
    for method in methods:
        for budget, (structure, seconds) in structures_of(net, method, seed, data).items():
            row = dict(net=net, method=method, budget=budget, seed=seed)
            known = read_rows(RESULTS) if RESULTS.exists() else []
            if any(all(r[k] == v for k, v in row.items()) for r in known):
                continue
            _, epochs, lr = TRAINING[net]
            torch.manual_seed(1000 + seed)
            slim = build_slim(NETS[net](), structure)
            fit(slim, *data, epochs, 100 + seed, lr)
            row.update(accuracy=round(accuracy(slim, *score), 2), search_s=round(seconds, 2))
            append_row(RESULTS, {**row, 'macs': structure.resources['macs'], 'full': structure.supernet['macs']})


def table() -> str:
    rows: dict[str, dict[str, dict[float, list[dict[str, Any]]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in read_rows(RESULTS):
        rows[row['net']][row['method']][row['budget']].append(row)
    lines = []
    for net, by in rows.items():
        head = ['supernet', 'structures', *(f'{budget:.0%} of MACs' for budget in BUDGETS), 'search, s']
        lines += [f'| {" | ".join(head)} |', '| --- ' * len(head) + '|']
        for method, words in METHODS.items():
            if method not in by:
                continue
            cells = [_told([r['accuracy'] for r in by[method][budget]]) for budget in BUDGETS]
            seeds = len({r['seed'] for budget in BUDGETS for r in by[method][budget]})
            seconds = sum(r['search_s'] for budget in BUDGETS for r in by[method][budget]) / max(seeds, 1)
            lines.append(f'| {" | ".join([net, words, *cells, f"{seconds:.0f}"])} |')
        lines.append('')
    return '\n'.join(lines)


def _told(scores: list[float]) -> str:
    spread = f' ± {statistics.stdev(scores):.2f}' if len(scores) > 1 else ''
    return f'{statistics.mean(scores):.2f}{spread} ({len(scores)})' if scores else ''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=['run', 'table'])
    parser.add_argument('--net', choices=list(NETS), default='bottleneck')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--methods', nargs='+', choices=list(METHODS), default=list(METHODS))
    args = parser.parse_args()
    if args.command == 'table':
        write_block('docs/benchmarks.md', 'sweep', table())
        return
    for seed in args.seeds:
        run(args.net, seed, args.methods)


if __name__ == '__main__':
    main()
