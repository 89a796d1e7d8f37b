"""A search that passes several budgets, a structure between them, and all of them retrained, by the tools."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain')
from dms_mm import Structure
from dms_mm.cli import retarget, sweep, uniform
from dms_mm.cli.train import train

CONFIGS = Path(__file__).parents[2] / 'configs/demo'
DATA = [f'{x}_dataloader.dataset.name=digits' for x in ('train', 'val', 'test')]
SHORT = [
    *DATA,
    'default_hooks.checkpoint.interval=5',
    'default_hooks.checkpoint.max_keep_ckpts=-1',
    'train_dataloader.batch_size=8',
]


def search(folder, *more, extra=()):
    options = [*SHORT, 'train_cfg.max_iters=10', 'model.target.macs=[0.1,0.05,0.02]', *more]
    options += ['model.open_branches=False', 'model.space.verify=shapes']  # which are tested elsewhere
    train([
        str(CONFIGS / 'search.py'), '--work-dir', str(folder), '--no-validate', *extra,
        '--cfg-options', *options, f'experiment_name={folder.name}{len(extra)}',
    ])  # fmt: skip


def shares_of(folder):
    found = {p.name: Structure.load(p) for p in sorted(folder.glob('structure*.json'))}
    return {name: s.resources['macs'] / s.supernet['macs'] for name, s in found.items()}


@pytest.fixture(scope='module')
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp('searched')
    search(folder)
    return folder


def test_a_search_writes_every_budget(searched):
    shares = shares_of(searched)
    assert list(shares) == ['structure.json', 'structure_0.05.json', 'structure_0.10.json']
    for share, goal in zip(shares.values(), (0.02, 0.05, 0.1)):
        assert 0.99 * goal <= share <= goal
    assert torch.load(searched / 'slim_0.10.pth', weights_only=True)


def test_the_uniform_baseline_of_every_budget(tmp_path):
    given = ['--cfg-options', 'model.target.macs=[0.1,0.02]', 'model.space.verify=shapes']
    assert uniform.main([str(CONFIGS / 'search.py'), str(tmp_path / 'structure.json'), *given]) == 0
    shares = shares_of(tmp_path)
    assert 0.0198 <= shares['structure.json'] <= 0.02 and 0.099 <= shares['structure_0.10.json'] <= 0.1


def test_resumed_before_and_after_a_budget_all_are_the_same(searched, tmp_path):
    """From a checkpoint in another folder, too: what was passed before is in it."""
    other = tmp_path / 'other'
    search(other, 'train_cfg.max_iters=10', extra=['--resume', str(searched / 'iter_5.pth')])
    for name in shares_of(searched):
        assert Structure.load(other / name) == Structure.load(searched / name)


def test_retarget_and_sweep(searched, tmp_path, capsys):
    for name in shares_of(searched):
        for kind in ('structure', 'slim'):
            path = searched / name.replace('structure', kind).replace(
                '.json', '.json' if kind == 'structure' else '.pth'
            )
            (tmp_path / path.name).symlink_to(path)
    out, weights = tmp_path / 'structure_0.07.json', tmp_path / 'slim_0.07.pth'
    given = [str(searched / 'iter_10.pth'), '--out', str(out), '--weights', str(weights)]
    assert retarget.main([*given, '--macs', '0.07']) == 0
    assert 0.99 * 0.07 <= shares_of(tmp_path)['structure_0.07.json'] <= 0.07
    retrain = [str(CONFIGS / 'retrain.py'), '--search', str(tmp_path), '--work-dir', str(tmp_path / 'runs')]
    short = [
        '--cfg-options',
        *SHORT,
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
        'val_dataloader.batch_size=500',
    ]
    assert sweep.main([*retrain, *short, 'experiment_name=sweep']) == 0
    rows = json.loads((tmp_path / 'runs/sweep.json').read_text())
    assert [row['name'] for row in rows] == ['0.10', '0.07', '0.05', '0.02']
    assert all('accuracy/top1' in row['metrics'] for row in rows)
    assert (tmp_path / 'runs/sweep.png').read_bytes().startswith(b'\x89PNG')
    assert (tmp_path / 'runs/sweep.md').read_text().count('\n') == 6
    # What is done is not done again, and what is something else is not taken for it.
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / 'runs').rglob('*.pth')}
    assert written and sweep.main([*retrain, *short, 'experiment_name=again']) == 0
    assert json.loads((tmp_path / 'runs/sweep.json').read_text()) == rows
    assert written == {p: p.stat().st_mtime_ns for p in (tmp_path / 'runs').rglob('*.pth')}
    for more in (['--cfg-options', *short[1:], 'optim_wrapper.optimizer.lr=0.3'], ['--evaluate', *short]):
        assert sweep.main([*retrain, *more]) == 2
        assert 'has a run of another structure, config or kind' in capsys.readouterr().err
    evaluate = [*retrain[:-1], str(tmp_path / 'kept'), '--evaluate', '--cfg-options', *DATA, 'experiment_name=kept']
    assert sweep.main(evaluate) == 0
    assert len(json.loads((tmp_path / 'kept/sweep.json').read_text())) == 4
    # Another structure under the same name: its budget's run is not gone on with.
    (tmp_path / 'structure_0.05.json').unlink()
    assert uniform.main([
        str(CONFIGS / 'search.py'), str(tmp_path / 'structure_0.05.json'), '--cfg-options', 'model.target.macs=0.05',
        'model.space.verify=shapes',
    ]) == 0  # fmt: skip
    assert sweep.main([*retrain, *short]) == 2


def test_wrong_arguments_are_named(searched, tmp_path, capsys):
    checkpoint = str(searched / 'iter_10.pth')
    retrain = str(CONFIGS / 'retrain.py')
    for main, given, message in (
        (retarget.main, [checkpoint], 'no target'),
        (retarget.main, [checkpoint, '--target', 'macs'], 'takes NAME=VALUE'),
        (retarget.main, [checkpoint, '--macs', '1e-9'], 'out of reach'),
        (retarget.main, [str(searched / 'slim.pth'), '--macs', '0.1'], 'no checkpoint of a search'),
        (sweep.main, [retrain, '--search', str(tmp_path)], 'there is no structure*.json'),
        (sweep.main, [str(CONFIGS / 'search.py'), '--search', str(searched)], 'no retrain config'),
        (sweep.main, [retrain, '--search', str(searched), '--resource', 'watts'], "unknown resource 'watts'"),
    ):
        assert main([*given, *(['--out', str(tmp_path / 'x.json')] if main is retarget.main else [])]) == 2
        assert message in capsys.readouterr().err
