"""Peak memory of activations: predicted from the trace, and measured by torch's profiler.

    python benchmarks/memory.py [--models NAME ...] [--write]

The supernet and a random slim model of each, batch 4, float32, on this CPU: a forward without gradients, and a
forward and backward. Measured is the highest sum of what the profiler records as allocated and freed. Some kernels
of a CPU (oneDNN's) allocate copies in a layout of their own and free them before they end: these are in the last
column of each kind alone.
"""

from __future__ import annotations

import argparse
import gc
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import dms_mm
from dms_mm.slimming.trials import random_keep

MODELS = (
    'torchvision/resnet18', 'torchvision/vgg11_bn', 'torchvision/densenet121', 'torchvision/mobilenet_v3_small',
    'torchvision/shufflenet_v2_x1_0', 'torchvision/swin_t', 'timm/efficientnet_b0', 'timm/regnety_004',
    'timm/convnext_atto', 'timm/deit_tiny_patch16_224',
)  # fmt: skip
BATCH, SHAPE = 4, (3, 224, 224)
KINDS = ('inference', 'training')


def build(name: str) -> nn.Module:
    library, _, short = name.partition('/')
    if library == 'torchvision':
        import torchvision

        return torchvision.models.get_model(short)
    import timm

    return timm.create_model(short)


def measured(model: nn.Module, x: torch.Tensor, training: bool) -> tuple[int, int]:
    """Bytes at the peak: of what outlives the operator that allocates it, and of everything."""
    model.train(training)

    def run() -> None:
        if training:
            model(x).square().mean().backward()
        else:
            with torch.no_grad():
                model(x)

    def clear() -> None:
        for p in model.parameters():
            p.grad = None

    run()
    clear()
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    clear()
    return peaks(recorded.profiler.kineto_results.events())


def peaks(events: list) -> tuple[int, int]:
    running: list[tuple[int, int]] = []  # when an operator began and ended, the innermost last
    changes: list[list] = []  # bytes, and whether they are freed by the operator that allocated them
    ends: list[int] = []
    for event in sorted(events, key=lambda e: e.start_ns()):
        now = event.start_ns()
        while running and running[-1][1] < now:
            running.pop()
        if event.name() != '[memory]':
            running.append((now, event.end_ns()))
            continue
        size = event.nbytes()
        changes.append([size, False])
        ends.append(running[-1][1] if running else 0)
        if size < 0:
            freed = next((k for k in reversed(range(len(changes) - 1)) if changes[k] == [-size, False]), None)
            if freed is not None:
                inner = now <= ends[freed]
                # None: matched, so that no later one is taken for it.
                changes[freed][1] = changes[-1][1] = True if inner else None
    lasting = [size for size, inner in changes if inner is not True]
    return highest(lasting), highest([size for size, _ in changes])


def highest(changes: list[int]) -> int:
    total = most = 0
    for change in changes:
        total += change
        most = max(most, total)
    return most


def rows(name: str) -> tuple[list[str], list[float]]:
    """Lines of the table for one model, and the ratios of predicted to measured."""
    torch.manual_seed(0)
    resources = {kind: dict(type='ActivationBytes', batch=BATCH, training=kind == 'training') for kind in KINDS}
    space = dms_mm.make_searchable(build(name), torch.zeros(2, *SHAPE), verify='shapes', resources=resources)
    units, x = list(space.units.values()), torch.randn(BATCH, *SHAPE)
    lines, ratios = [], []
    for label, keep in (('whole', None), ('slim', random_keep(units, 1, low=0.3))):
        if keep is not None:
            space.bank.harden_all(torch.from_numpy(keep))
        predicted, slim = space.resources(), space.slim()
        cells = [name, label]
        for kind in KINDS:
            found, every = measured(slim, x, kind == 'training')
            ratios.append(predicted[kind] / found)
            cells += [f'{predicted[kind] / 1e6:.1f}', f'{found / 1e6:.1f}', f'{ratios[-1]:.3f}', f'{every / 1e6:.1f}']
        lines.append('| ' + ' | '.join(cells) + ' |')
    return lines, ratios


def table(names: list[str], show: Callable[[str], None]) -> str:
    head = ['model', 'structure']
    for kind in KINDS:
        head += [f'{kind}: predicted MB', 'measured', 'ratio', "with kernels' own"]
    lines, ratios = ['| ' + ' | '.join(head) + ' |', '| ' + ' | '.join('---' for _ in head) + ' |'], []
    for name in names:
        new, more = rows(name)
        lines += new
        ratios += more
        show('\n'.join(new))
    worst = max(abs(ratio - 1) for ratio in ratios)
    return '\n'.join([*lines, '', f'The largest difference is {worst:.1%} of what was measured.'])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', default=list(MODELS), help='torchvision/NAME or timm/NAME')
    parser.add_argument('--write', action='store_true', help='into docs/benchmarks.md')
    args = parser.parse_args()
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    text = table(args.models, lambda line: print(line, flush=True))
    if args.write:
        sys.path.insert(0, str(Path(__file__).parent))
        from _docs import write_block

        write_block('docs/benchmarks.md', 'memory', text)


if __name__ == '__main__':
    main()
