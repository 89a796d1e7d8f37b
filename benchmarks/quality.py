"""Is the search worth it? Searched against uniformly scaled structures of equal MACs on Fashion-MNIST.

    python benchmarks/quality.py run --net flat --budget 0.1 --seed 0 --methods balanced paper uniform uniform-depth
    python benchmarks/quality.py all        every run of docs/benchmarks.md, two processes side by side; some hours
    python benchmarks/quality.py tried      the table of what was tried on held-out images, into docs/
    python benchmarks/quality.py table      the table and the picture of all recorded runs, into docs/

Every run appends a line to benchmarks/results/quality.jsonl. ``--held-out`` trains without the last 5,000 training
images and scores on them: hyperparameters are chosen with it, and test images are looked at once.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _docs import write_block

from dms_mm import Search, build_slim, make_searchable
from dms_mm.algorithms.budget import uniform_keep
from dms_mm.datasets.small_images import load_images
from dms_mm.slimming.narrow import narrow_layers

RESULTS = Path(__file__).parent / 'results'


def load(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels, _ = load_images('fashion-mnist', split)
    x = torch.from_numpy(images.copy()).float().div_(255).sub_(0.286).div_(0.353)
    return x[:, None], torch.from_numpy(labels)


def efficientnet() -> nn.Module:
    """MMPretrain's EfficientNet-B0 shape at half width, on 28 px: too deep and too late-heavy for small images."""
    from dms_mm.models.hosts import import_scope

    import_scope('mmpretrain')
    from mmpretrain.models import EfficientNet, GlobalAveragePooling, LinearClsHead
    from mmpretrain.models.classifiers import ImageClassifier

    class Small(EfficientNet):
        arch_settings = {'b0': (0.5, 0.9, 32)}

    backbone = Small(arch='b0', drop_path_rate=0.0)
    backbone.layers[0].conv = type(backbone.layers[0].conv)(1, backbone.layers[0].conv.out_channels, 3, 2, bias=False)
    head = LinearClsHead(10, backbone.out_channels)
    backbone.layers[0].padding_layer = None
    return ImageClassifier(backbone, GlobalAveragePooling(), head)


def flat() -> nn.Module:
    """timm ResNet with the same width in every stage: the cheap late stages are too thin, the first too wide."""
    from timm.models.resnet import BasicBlock, ResNet

    return ResNet(
        BasicBlock, [2, 2, 2, 2], num_classes=10, in_chans=1, stem_width=32, stem_type='', channels=(32, 32, 32, 32),
        replace_stem_pool=False, output_stride=32,
    )  # fmt: skip


NETS = {'efficientnet': efficientnet, 'flat': flat}


def batches(images: torch.Tensor, labels: torch.Tensor, size: int, generator: torch.Generator):
    order = torch.randperm(len(images), generator=generator)
    for i in range(0, len(order) - size + 1, size):
        index = order[i : i + size]
        x = images[index]
        flip = torch.rand(size, generator=generator) < 0.5
        x = torch.where(flip[:, None, None, None], x.flip(3), x)
        dx, dy = torch.randint(-2, 3, (2,), generator=generator).tolist()
        yield torch.roll(x, (dy, dx), (2, 3)), labels[index]


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    model.eval()
    hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(1000), labels.split(1000)))
    return 100 * hits / len(images)


def memory_format(model: nn.Module) -> torch.memory_format:
    """channels_last, in which depthwise convolutions run faster on a CPU; contiguous where that would train wrongly."""
    return torch.contiguous_format if narrow_layers(model) else torch.channels_last


def fit(
    model: nn.Module, images, labels, epochs: float, seed: int, lr: float, search: Search | None = None, size: int = 128
) -> float:
    """Train with SGD and a one-cycle rate; with ``search``, structure and weights together. Returns seconds.

    With a rate of 0 the weights stay, and a search learns the structure alone.
    """
    form = memory_format(model)
    model.to(memory_format=form)
    generator = torch.Generator().manual_seed(seed)
    begin = time.time()
    steps = int(epochs * (len(images) // size))
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [dict(params=decay, weight_decay=5e-4), dict(params=plain, weight_decay=0.0)]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.2)
    model.train()
    done = 0
    while done < steps:
        for x, y in batches(images, labels, size, generator):
            loss = F.cross_entropy(model(x.contiguous(memory_format=form)), y)
            if search is not None:
                loss = loss + search.resource_loss()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if search is not None:
                search.step()
            done += 1
            if done == steps:
                break
    return time.time() - begin


def structure_of(args, method: str, seed: int, images, labels):
    """(structure, seconds of search, accuracy of nothing): by uniform scaling or by a search."""
    torch.manual_seed(seed)
    model = NETS[args.net]()
    space = make_searchable(model, torch.zeros(2, 1, 28, 28), min_channels=args.min_channels)
    if method.startswith('uniform'):
        keep = uniform_keep(space, {'macs': args.budget}, scale_depth=method == 'uniform-depth')
        for unit in space.units.values():
            space.bank.harden(unit.index, keep[unit.start : unit.start + unit.size])
        return space.structure(), 0.0
    options = json.loads(args.search)
    steps = int(args.search_epochs * (len(images) // 128))
    rule = 'paper' if method == 'paper' else 'balanced'
    if rule == 'paper':
        options = {k: v for k, v in options.items() if k in ('ramp', 'widths_only')} | json.loads(args.paper)
    search = Search(space, {'macs': args.budget}, steps, rule=rule, **options)
    seconds = fit(model, images, labels, args.search_epochs, seed, args.lr, search)
    return search.finalize(), seconds


def run(args) -> None:
    torch.set_num_threads(args.threads)
    images, labels = load('train')
    if args.held_out:
        score = images[-5000:], labels[-5000:]
        images, labels = images[:-5000], labels[:-5000]
    else:
        score = load('test')
    RESULTS.mkdir(exist_ok=True)
    for method in args.methods:
        structure, seconds = structure_of(args, method, args.seed, images, labels)
        torch.manual_seed(1000 + args.seed)
        slim = build_slim(NETS[args.net](), copy.deepcopy(structure))
        retrain = fit(slim, images, labels, args.epochs, 100 + args.seed, args.lr)
        widths = {n: f'{structure.kept(n)}/{u["size"]}' for n, u in structure.units.items()}
        thin = structure.strangled()
        row = dict(
            net=args.net, budget=args.budget, method=method, seed=args.seed, held_out=args.held_out,
            accuracy=round(accuracy(slim, *score), 2), macs=structure.resources['macs'],
            params=structure.resources['params'], share=structure.resources['macs'] / structure.supernet['macs'],
            search_s=round(seconds, 1), retrain_s=round(retrain, 1), strangled=thin,
            removed=structure.removed, widths=widths, tag=args.tag,
            options=args.search,
        )  # fmt: skip
        with open(args.out, 'a') as f:
            f.write(json.dumps(row) + '\n')
        print({k: v for k, v in row.items() if k not in ('options',)}, flush=True)


# Budgets as shares of each supernet's MACs, epochs of search and of retraining.
PLAN = {
    'flat': ((0.1, 0.06, 0.03), 1.0, 5.0, ('balanced', 'paper', 'uniform', 'uniform-depth')),
    'efficientnet': ((0.1, 0.05, 0.2), 0.6, 2.5, ('balanced', 'paper', 'uniform-depth')),
}
PAPER = '{"lr": 0.03}'


def run_all(args) -> None:
    """The whole plan, one process a seed at a time, two side by side."""
    jobs = []
    for seed in (0, 1, 2):
        for net, (budgets, search, epochs, methods) in PLAN.items():
            for budget in budgets:
                jobs.append(
                    [sys.executable, __file__, 'run', '--net', net, '--seed', str(seed), '--budget', str(budget),
                     '--search-epochs', str(search), '--epochs', str(epochs), '--paper', PAPER, '--out', args.out,
                     '--methods', *methods]
                )  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        for status in pool.map(lambda job: subprocess.run(job).returncode, jobs):
            if status:
                raise SystemExit(status)


def table(args) -> None:
    rows = [json.loads(line) for line in Path(args.out).read_text().splitlines()]
    lines = [
        '| supernet | MACs | method | test accuracy | against uniform | thinnest width | search s | retrain s |',
        '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    figure, axes = plt.subplots(1, len(PLAN), figsize=(11, 4.2))
    for axis, (net, (budgets, _, _, methods)) in zip(axes, PLAN.items()):
        curves: dict[str, list[tuple[float, float, float]]] = {m: [] for m in methods}
        for budget in sorted(budgets):
            group = {m: [r for r in rows if (r['net'], r['budget'], r['method']) == (net, budget, m)] for m in methods}
            group = {m: runs for m, runs in group.items() if runs}
            means = {m: statistics.mean(r['accuracy'] for r in runs) for m, runs in group.items()}
            base = max(v for m, v in means.items() if m.startswith('uniform'))
            for method, runs in group.items():
                scores = [r['accuracy'] for r in runs]
                spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
                macs = statistics.mean(r['macs'] for r in runs)
                curves[method].append((macs, means[method], spread))
                gain = '' if method.startswith('uniform') else f'{means[method] - base:+.2f}'
                lines.append(
                    f'| {net} | {macs / 1000:,.0f}k ({budget:.0%}) | {method} | {means[method]:.2f} ± {spread:.2f} '
                    f'({len(scores)}) | {gain} | {min(thinnest(r) for r in runs):.0%} '
                    f'| {statistics.mean(r["search_s"] for r in runs):.0f} '
                    f'| {statistics.mean(r["retrain_s"] for r in runs):.0f} |'
                )
        for method, points in curves.items():
            if points:
                x, y, e = zip(*points)
                axis.errorbar(x, y, e, label=method, marker='o', capsize=3)
        axis.set(title=net, xlabel='MACs', ylabel='test accuracy', xscale='log')
        axis.legend()
    figure.tight_layout()
    figure.savefig(Path(__file__).parents[1] / 'docs/quality.png', dpi=100)
    text = '\n'.join(lines)
    print(text)
    write_block('docs/benchmarks.md', 'quality', text)


def tried(args) -> None:
    """What was tried on held-out images, from benchmarks/results/held_out.jsonl."""
    rows = [json.loads(line) for line in (RESULTS / 'held_out.jsonl').read_text().splitlines()]
    groups: dict[tuple, list[dict]] = {}
    for r in rows:
        groups.setdefault((r['net'], r['budget'], r['method'], r['options'], r['search_epochs']), []).append(r)
    lines = [
        '| supernet | MACs share | method | options | search epochs | held-out accuracy by seed | widths under 5% |',
        '| --- | --- | --- | --- | --- | --- | --- |',
    ]
    ordered = sorted(groups.items(), key=lambda g: (g[0][0] != 'flat', g[0][1:]))
    for (net, budget, method, options, epochs), runs in ordered:
        scores = ', '.join(f'{r["accuracy"]:.2f}' for r in runs)
        thin = sum(len(r['strangled']) for r in runs)
        lines.append(f'| {net} | {budget} | {method} | {options} | {epochs or ""} | {scores} | {thin} |')
    write_block('docs/benchmarks.md', 'tried', '\n'.join(lines))


def thinnest(row: dict) -> float:
    """Smallest share that a width keeps, outside of stages without blocks."""
    gone = row.get('removed', [])
    pairs = [
        (int(a), int(b))
        for name, text in row['widths'].items()
        if '/depth' not in name and not any(name.startswith(g + '.') for g in gone)
        for a, b in [text.split('/')]
    ]
    return min(a / b for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=['run', 'all', 'table', 'tried'])
    parser.add_argument('--net', choices=list(NETS), default='flat')
    parser.add_argument('--budget', type=float, default=0.1)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--methods', nargs='+', default=['balanced', 'paper', 'uniform'])
    parser.add_argument('--epochs', type=float, default=4)
    parser.add_argument('--search-epochs', type=float, default=1)
    parser.add_argument('--lr', type=float, default=0.1)
    parser.add_argument('--min-channels', type=int, default=1)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--search', default='{}', help='options of Search, JSON')
    parser.add_argument('--paper', default='{}', help="options of Search with rule='paper', JSON")
    parser.add_argument('--held-out', action='store_true')
    parser.add_argument('--tag', default='')
    parser.add_argument('--out', default=str(RESULTS / 'quality.jsonl'))
    args = parser.parse_args()
    {'run': run, 'all': run_all, 'table': table, 'tried': tried}[args.command](args)


if __name__ == '__main__':
    main()
