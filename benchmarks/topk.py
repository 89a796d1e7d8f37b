"""A whole update of the bank against one torch.sort of as many floats, in one run; and memory against N.

python benchmarks/topk.py [--write]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _docs import write_block

from dms_mm.topk import TopkBank


def bank_of(elements: int, units: int) -> TopkBank:
    size = elements // units
    bank = TopkBank([size] * units, [float(size)] * units, [1] * units)
    with torch.no_grad():
        bank.ratio.uniform_(0.1, 0.9)
        bank.importance.uniform_()
    bank.refresh()
    return bank


def update(bank: TopkBank, grad: torch.Tensor) -> None:
    """Backward into every unit's mask, importance, chain rule to the ratios, ranks and masks."""
    torch.autograd.backward(bank.leaves, grad.split(bank.sizes))
    g = bank.take_grad()
    bank.update_importance(g)
    bank.chain(g)
    bank.refresh()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--write', action='store_true', help='put the table into docs/benchmarks.md')
    args = parser.parse_args()
    lines = ['| elements | units | update / one sort | bytes an element |', '| --- | --- | --- | --- |']
    for elements, units in ((10_000, 50), (100_000, 200), (1_000_000, 1000), (4_000_000, 1000)):
        bank, grad, floats = bank_of(elements, units), torch.randn(elements), torch.rand(elements)
        ratios = []
        update(bank, grad)
        for _ in range(9):
            begin = time.perf_counter()
            torch.sort(floats)
            middle = time.perf_counter()
            update(bank, grad)
            ratios.append((time.perf_counter() - middle) / (middle - begin))
        tensors = [*bank.buffers(), bank.mask, bank.grad, bank.rank]
        size = sum(t.numel() * t.element_size() for t in tensors) / elements
        lines.append(f'| {elements:,} | {units:,} | {statistics.median(ratios):.1f} | {size:.0f} |')
        print(lines[-1], flush=True)
    if args.write:
        write_block('docs/benchmarks.md', 'topk', '\n'.join(lines))


if __name__ == '__main__':
    main()
