"""Seconds and memory of ``make_searchable``: trace and trials on shapes, and the proof by numbers beside them.

    python benchmarks/tracing.py [--against REVISION] [--write]

Each model in processes of its own, on one core of this machine; CPU seconds, the least of three. With ``--against``,
another revision runs in turns, and a column has the ratio. The proof by numbers has its seconds in plain forwards of
its example, in float64, too. Llama-7B has its weights on ``meta``: they take no memory, and nothing is proved.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve()
MODELS = (
    'efficientnet_b0', 'efficientnet_b7', 'torchvision/resnet50', 'swin_base_patch4_window7_224', 'torchvision/swin_b',
    'deit_small_patch16_224', 'Llama-7B'
)  # fmt: skip
REPEATS = 3


def build(name: str):
    """(model, example)"""
    import torch

    if name == 'Llama-7B':
        import transformers

        with torch.device('meta'):
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig()).eval()
        model.config.use_cache = False
        return model, {'input_ids': torch.zeros(1, 16, dtype=torch.long)}
    library, _, short = name.rpartition('/')
    if library:
        import torchvision

        return torchvision.models.get_model(short), torch.zeros(2, 3, 224, 224)
    import timm

    return timm.create_model(name), torch.zeros(2, 3, 224, 224)


def measure(name: str, verify: str) -> dict:
    """What one ``make_searchable`` took, in this process."""
    import torch

    from dms_mm.space import make_searchable

    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    model, inputs = build(name)
    known = 'verify_inputs' in inspect.signature(make_searchable).parameters  # not in older checkouts
    options = {'verify': verify} if known else {}
    if verify == 'numbers' and name != 'Llama-7B':
        options['verify_inputs'] = torch.zeros(1, 3, 224, 224)
    start = time.process_time()
    space = make_searchable(model, inputs, **options)
    found = dict(
        seconds=time.process_time() - start,
        units=len(space.units),
        elements=len(space.bank.segment),
        share=space.searchable_share(),
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    )
    if verify == 'numbers' and not space.proof.unproved:
        model = space.detach().double().eval()
        x = torch.randn(1, 3, 224, 224, dtype=torch.float64)
        with torch.no_grad():
            model(x)
            start = time.process_time()
            model(x)
        found |= dict(structures=space.proof.structures, plain=time.process_time() - start)
    return found


def run(root: Path, name: str, verify: str = 'shapes') -> dict:
    command = [sys.executable, str(HERE), '--measure', name, verify]
    env = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    lines = subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd='/').stdout.splitlines()
    return json.loads(lines[-1])


def row(name: str, against: Path | None) -> str:
    mine, theirs = [], []
    for _ in range(REPEATS):
        theirs += [run(against, name)['seconds']] if against else []
        mine.append(run(HERE.parents[1], name))
    best = min(mine, key=lambda found: found['seconds'])
    cells = [name, f'{best["units"]}', f'{best["elements"]:,}', f'{best["share"]:.1%}', f'{best["seconds"]:.1f}']
    cells += [f'{best["seconds"] / min(theirs):.2f}'] if against else []
    proved = run(HERE.parents[1], name, 'numbers')
    proof = 'not proved'
    if 'plain' in proved:
        seconds = proved['seconds'] - best['seconds']
        proof = f'{seconds:.1f} s, {seconds / proved["plain"]:.0f} forwards, {proved["structures"]} structures'
    return '| ' + ' | '.join([*cells, proof, f'{best["peak"]:.2f}']) + ' |'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--against', help='another revision, compared with this one')
    parser.add_argument('--write', action='store_true', help='into docs/benchmarks.md')
    parser.add_argument('--measure', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    names = ['model', 'units', 'elements', 'share of MACs', 's', *(['ratio'] if args.against else [])]
    names += ['the proof', 'peak GB of the process']
    lines = ['| ' + ' | '.join(names) + ' |', '| ' + ' | '.join('---' for _ in names) + ' |']
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / 'other' if args.against else None
        if other:
            subprocess.run(
                ['git', 'worktree', 'add', '--detach', str(other), args.against], check=True, cwd=HERE.parent
            )
        for name in MODELS:
            lines.append(row(name, other))
            print(lines[-1], flush=True)
        if other:
            subprocess.run(['git', 'worktree', 'remove', '--force', str(other)], check=True, cwd=HERE.parent)
    if args.write:
        sys.path.insert(0, str(HERE.parent))
        from _docs import write_block

        write_block('docs/benchmarks.md', 'tracing', '\n'.join(lines))


if __name__ == '__main__':
    main()
