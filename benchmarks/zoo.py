"""Does it work on my model? Every model of a zoo, traced, made slim at random, reloaded and exported.

    python benchmarks/zoo.py run [--group timm] [--shard 0/2] [NAME ...]   # appends to results/zoo.jsonl
    python benchmarks/zoo.py table [--write]                              # docs/zoo.md

Each model runs in a forked process of its own: trace and check (seconds), units, searchable share of the MACs, the
largest difference of three random hard structures between the masked supernet and the slim model in float64, a strict
reload of the slim weights by the structure file in a fresh process, ONNX Runtime against the slim model; and, in
the same run, Torch-Pruning: trace, random pruning to half width, one forward.
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
from zoo_models import GROUPS, TORCHVISION, build, names  # noqa: E402

RESULTS = Path(__file__).parent / 'results' / 'zoo.jsonl'


def run_one(name: str) -> dict:
    import torch

    import dms_mm
    from dms_mm.slimming.verify import outputs_of, verify_equivalence

    warnings.filterwarnings('ignore')
    record: dict = {'name': name}
    model, inputs, forward = build(name)
    start = time.process_time()
    space = dms_mm.make_searchable(model, inputs, forward_fn=forward)
    record['seconds'] = round(time.process_time() - start, 1)
    record['units'] = dict(collections.Counter(u.kind for u in space.units.values()))
    record['share'] = round(space.searchable_share(), 3)
    record['widths'] = round(space.searchable_share(by='widths'), 3)
    record['proof'] = space.proof.unproved or 'ok'
    record['frozen'] = space.frozen[:5]
    record['reasons'] = space.blockers(3)
    worst = 0.0
    for seed in range(3):
        worst = max(worst, verify_equivalence(space, inputs, forward, seed=seed))
    record['equivalence'] = worst
    record['counted'] = counting(space, inputs, forward)
    print(json.dumps(record), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        slim = random_slim(space)
        space.structure().save(f'{folder}/structure.json')
        torch.save(slim.state_dict(), f'{folder}/slim.pth')
        torch.save([x.float() for x in outputs_of(slim, inputs, forward)], f'{folder}/outputs.pth')
        torch.save(inputs, f'{folder}/inputs.pth')
        again = subprocess.run(
            [sys.executable, __file__, 'reload', name, '--folder', folder], capture_output=True, text=True, timeout=300
        )
        record['reload'] = 'ok' if again.returncode == 0 else again.stderr.strip().splitlines()[-1][:200]
    return record


def random_slim(space):
    """The slim model of a random hard structure, which the space then shows."""
    import torch

    from dms_mm.slimming.trials import random_keep

    keep = torch.from_numpy(random_keep(list(space.units.values()), 7))
    space.set_keep({u.name: keep[u.start : u.start + u.size] for u in space.units.values()})
    return space.slim().eval()


def counting(space, inputs, forward) -> str:
    """Parameters and MACs by ``resources()`` against those of the whole model and of a random slim one."""
    import torch

    from dms_mm.slimming.twins import NEAREST, counted
    from dms_mm.tracing import call_forward, first_batch

    for whole in (True, False):
        slim = space.slim() if whole else random_slim(space)
        counts = space.resources()
        params = sum(p.numel() for p in slim.parameters())
        if params != counts['params']:
            return f'{counts["params"]} parameters of {params}'
        with torch.no_grad(), counted() as counter:
            call_forward(slim.eval().requires_grad_(False), inputs, forward)
        macs = counter.get_total_flops() / 2 / first_batch(inputs)
        # Where data decide, other weights compute something else.
        if abs(macs - counts['macs']) > NEAREST and (whole or not space.plan.trace.decisions):
            return f'{counts["macs"]:g} MACs of {macs:g}'
    return 'ok'


def export_one(name: str) -> dict:
    """ONNX Runtime against a random slim model."""
    import dms_mm

    model, inputs, forward = build(name)
    space = dms_mm.make_searchable(model, inputs, forward_fn=forward)
    with tempfile.TemporaryDirectory() as folder:
        return {'onnx': check_onnx(random_slim(space), inputs, forward, f'{folder}/model.onnx')}


def check_onnx(slim, inputs, forward, path: str) -> str:
    """Export by tracing, run in ONNX Runtime, compare."""
    import onnxruntime
    import torch
    from torch.utils._pytree import tree_flatten, tree_unflatten

    from dms_mm.slimming.verify import outputs_of

    tensors, spec = tree_flatten(inputs)

    class Flat(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, *tensors):
            return tuple(tensor_outputs(self.model, tree_unflatten(list(tensors), spec), forward))

    expected = outputs_of(slim, inputs, forward)
    if hasattr(slim, 'set_attn_implementation'):
        # torch 2.14 cannot export the fused kernel of Hugging Face's Swin and T5, whole or slim.
        slim.set_attn_implementation('eager')
    try:
        torch.onnx.export(Flat(slim).eval(), tuple(tensors), path, dynamo=True, external_data=False, verbose=False)
    except Exception as error:
        return f'export: {type(error).__name__}: {" ".join(str(error).split())[:120]}'
    try:
        session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
        feed = {i.name: t.numpy() for i, t in zip(session.get_inputs(), tensors)}
        outputs = session.run(None, feed)
    except Exception as error:
        return f'runtime: {type(error).__name__}: {" ".join(str(error).split())[:120]}'
    worst = max(
        float((torch.from_numpy(b).double() - a).abs().max() / a.abs().max().clamp_min(1e-12))
        for a, b in zip(expected, outputs)
    )
    return 'ok' if worst < 1e-3 else f'differs by {worst:.1e}'


def tensor_outputs(model, data, forward):
    import torch
    from torch.utils._pytree import tree_flatten

    from dms_mm.tracing import call_forward, plain_outputs

    leaves = tree_flatten(plain_outputs(call_forward(model, data, forward)))[0]
    return [x for x in leaves if isinstance(x, torch.Tensor) and x.is_floating_point()]


def reload(name: str, folder: str) -> None:
    """In a fresh process: the architecture, the structure file, the slim weights, the same outputs."""
    import torch

    import dms_mm
    from dms_mm.slimming.verify import outputs_of, relative_difference

    model, _, forward = build(name)
    slim = dms_mm.build_slim(model, f'{folder}/structure.json')
    # MMPretrain's Swin V2 takes tables out of what it loads, and then misses them.
    of_the_host = build(name)[0]
    known = of_the_host.load_state_dict(of_the_host.state_dict(), strict=False)
    found = slim.load_state_dict(torch.load(f'{folder}/slim.pth', weights_only=True), strict=False)
    if not set(found.missing_keys) <= set(known.missing_keys) or found.unexpected_keys:
        raise SystemExit(f'keys are missing or too many: {found}')
    inputs = torch.load(f'{folder}/inputs.pth', weights_only=True)
    expected = [x.double() for x in torch.load(f'{folder}/outputs.pth', weights_only=True)]
    difference = relative_difference(expected, outputs_of(slim.eval(), inputs, forward))
    if difference > 1e-5:
        raise SystemExit(f'outputs differ by {difference:.1e}')


def peer(name: str) -> dict:
    """Torch-Pruning on the same model: trace, prune at random to half width, one forward."""
    import torch
    import torch_pruning as tp

    warnings.filterwarnings('ignore')
    model, inputs, forward = build(name)
    outputs = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m.out_features in (1000, 100)]
    start = time.perf_counter()
    options = {'forward_fn': forward} if forward else {}
    pruner = tp.pruner.BasePruner(
        model, inputs, importance=tp.importance.RandomImportance(), pruning_ratio=0.5, ignored_layers=outputs, **options
    )
    before = sum(p.numel() for p in model.parameters())
    pruner.step()
    with torch.no_grad():
        tensor_outputs(model, inputs, forward)
    share = sum(p.numel() for p in model.parameters()) / before
    return {'peer': 'ok', 'peer_params': round(share, 3), 'peer_seconds': round(time.perf_counter() - start, 1)}


def child(function, name: str, timeout: int) -> tuple[dict, str]:
    """Run ``function(name)`` in a forked process: a crash, a lack of memory or a hang costs one model only."""
    context = multiprocessing.get_context('fork')
    with tempfile.NamedTemporaryFile('r+') as log:

        def work() -> None:
            with open(log.name, 'a') as sys.stdout:
                try:
                    print(json.dumps(function(name)), flush=True)
                except BaseException as error:
                    text = ' '.join(str(error).split())[:250]
                    print('problem:', f'{type(error).__name__}: {text}', flush=True)

        process = context.Process(target=work)
        process.start()
        process.join(timeout)
        problem = ''
        if process.is_alive():
            process.kill()
            process.join()
            problem = f'over {timeout} s'
        lines = Path(log.name).read_text().splitlines()
        record = next((json.loads(line) for line in reversed(lines) if line.startswith('{')), {})
        raised = next((line[9:] for line in lines if line.startswith('problem: ')), '')
        if not problem and not raised and process.exitcode:
            problem = f'killed by signal {-process.exitcode}'
        return record, problem or raised


def run(args) -> None:
    known_names = [n for g in args.group or GROUPS for n in names(g)]
    if unknown := set(args.names) - set(known_names):
        raise SystemExit(f'no models of the zoo: {sorted(unknown)}; for example {known_names[0]}')
    chosen = args.names or known_names
    index, count = map(int, args.shard.split('/'))
    known = {r['name']: r for r in load()} if args.resume else {}

    def left(name: str) -> list[str]:
        marks = {'check': {'units', 'problem'}, 'peer': {'peer'}, 'onnx': {'onnx'}}
        return [stage for stage in args.stages if not marks[stage] & set(known.get(name, {}))]

    RESULTS.parent.mkdir(exist_ok=True)
    # Imported once; every model then starts from here.
    import timm  # noqa: F401
    import torch
    import torch_pruning  # noqa: F401
    import torchvision  # noqa: F401
    import transformers  # noqa: F401

    import dms_mm  # noqa: F401

    torch.set_num_threads(1)
    for name in [n for n in chosen if left(n)][index::count]:
        record: dict = {'name': name}
        for stage in left(name):
            function, limit = STAGES[stage]
            found, problem = child(function, name, args.timeout or limit)
            record.update(found)
            if problem:
                record[{'check': 'problem'}.get(stage, stage)] = problem
            with RESULTS.open('a') as file:
                file.write(json.dumps(record) + '\n')
        print(
            name,
            {k: v for k, v in record.items() if k in ('share', 'equivalence', 'problem', 'onnx', 'peer')},
            flush=True,
        )


STAGES = {'check': (run_one, 300), 'peer': (peer, 30), 'onnx': (export_one, 120)}


def load() -> list[dict]:
    """What is known of each model, the newest last."""
    records: dict[str, dict] = {}
    if RESULTS.exists():
        for line in RESULTS.read_text().splitlines():
            record = json.loads(line)
            old = records.setdefault(record['name'], {})
            if 'units' in record:
                old.pop('problem', None)
            old.update(record)
    return list(records.values())


def group_of(name: str) -> str:
    group = name.split('/')[0]
    return 'torchvision' if group in TORCHVISION else group


def cell(text: str, width: int = 70) -> str:
    text = ' '.join(str(text).split()).replace('|', '/')
    return text if len(text) <= width else text[: width - 1] + '…'


def table(write: bool) -> None:
    from _docs import write_block

    records = sorted(load(), key=lambda r: (GROUPS.index(group_of(r['name'])), r['name']))
    lines = [
        '| model | s | units | share of MACs | by widths | equivalence | counted '
        '| reload | ONNX | Torch-Pruning | note |',
        '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    count = collections.Counter()
    for r in records:
        good = r.get('equivalence', 1) < 1e-5
        count['all'] += 1
        count['equal'] += good
        count['wide'] += r.get('share', 0) >= 0.8
        count['counted'] += r.get('counted') == 'ok'
        count['told'] += 'counted' in r
        count['reload'] += r.get('reload') == 'ok'
        count['onnx'] += r.get('onnx') == 'ok'
        count['exported'] += 'onnx' in r
        count['peer'] += r.get('peer') == 'ok'
        units = ' '.join(f'{v} {k}' for k, v in r.get('units', {}).items())
        note = r.get('problem', '')
        if not note and r.get('proof', 'ok') != 'ok':
            note = f'not proved by numbers: {r["proof"]}'
        if not note and r.get('widths', r.get('share', 1)) < (0.9 if 'widths' in r else 0.8):
            note = '; '.join([*r.get('frozen', [])[-1:], *r.get('reasons', [])])
        equal = f'{r["equivalence"]:.0e}' if 'equivalence' in r else ''
        cells = [r['name'], r.get('seconds', ''), units, r.get('share', ''), r.get('widths', ''), equal]
        cells += [cell(r.get(key, ''), 40) for key in ('counted', 'reload', 'onnx', 'peer')]
        lines.append('| ' + ' | '.join(map(str, [*cells, cell(note, 110)])) + ' |')
    summary = (
        f'{count["all"]} models: {count["equal"]} equivalent, {count["wide"]} with at least 80% of the MACs '
        f'searchable, {count["counted"]} of {count["told"]} counted exactly, {count["reload"]} reloaded, '
        f'{count["onnx"]} of {count["exported"]} equal in ONNX Runtime; '
        f'Torch-Pruning prunes and runs {count["peer"]}.'
    )
    print(summary)
    if write:
        write_block('docs/zoo.md', 'zoo', summary + '\n\n' + '\n'.join(lines))
    else:
        print('\n'.join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=['run', 'table', 'reload'])
    parser.add_argument('names', nargs='*')
    parser.add_argument('--group', action='append', choices=GROUPS)
    parser.add_argument('--shard', default='0/1')
    parser.add_argument('--timeout', type=int, help='seconds for every stage of a model, instead of its usual ones')
    parser.add_argument('--resume', action='store_true', help='leave out models and stages that have a record')
    parser.add_argument('--stages', nargs='+', choices=list(STAGES), default=list(STAGES))
    parser.add_argument('--write', action='store_true')
    parser.add_argument('--folder')
    args = parser.parse_args()
    if args.command == 'run':
        run(args)
    elif args.command == 'table':
        table(args.write)
    else:
        reload(args.names[0], args.folder)


if __name__ == '__main__':
    main()
