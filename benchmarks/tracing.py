"""Seconds and memory of ``make_searchable``: trace, check on slim models, masks.

    python benchmarks/tracing.py [--write]

Each model in a process of its own, on this machine. Llama-7B has its weights on ``meta``: they take no memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _docs import write_block

MODELS = (
    'efficientnet_b7', 'swin_base_patch4_window7_224', 'torchvision/swin_b', 'deit_small_patch16_224', 'Llama-7B'
)  # fmt: skip


def measure(name: str, results) -> None:
    import torch

    import dms_mm

    warnings.filterwarnings('ignore')
    if name == 'Llama-7B':
        import transformers

        with torch.device('meta'):
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig()).eval()
        model.config.use_cache = False
        inputs = {'input_ids': torch.zeros(1, 16, dtype=torch.long)}
    else:
        import timm
        import torchvision

        library, _, short = name.rpartition('/')
        model = torchvision.models.get_model(short) if library else timm.create_model(name)
        inputs = torch.zeros(2, 3, 224, 224)
    start = time.perf_counter()
    space = dms_mm.make_searchable(model, inputs)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    results.put((len(space.units), len(space.bank.segment), space.searchable_share(), seconds, peak))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--write', action='store_true')
    args = parser.parse_args()
    context = multiprocessing.get_context('spawn')
    lines = [
        '| model | units | elements | share of MACs | s | peak GB of the process |',
        '| --- | --- | --- | --- | --- | --- |',
    ]
    for name in MODELS:
        results = context.Queue()
        process = context.Process(target=measure, args=(name, results))
        process.start()
        units, elements, share, seconds, peak = results.get()
        process.join()
        lines.append(f'| {name} | {units} | {elements:,} | {share:.1%} | {seconds:.1f} | {peak:.2f} |')
        print(lines[-1], flush=True)
    if args.write:
        write_block('docs/benchmarks.md', 'tracing', '\n'.join(lines))


if __name__ == '__main__':
    main()
