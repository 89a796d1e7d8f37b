"""The tools as a user runs them, in processes of their own, on 5,000 real digits."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from builders.processes import ROOT, command, free_port, run
from dms_mm import Structure

DATA = [
    'train_dataloader.dataset.name=digits',
    'val_dataloader.dataset.name=digits',
    'test_dataloader.dataset.name=digits',
]
SHORT = [*DATA, 'default_hooks.logger.interval=5', 'default_hooks.checkpoint.interval=4']


def search(folder, iters, *options, extra=(), **kwargs):
    return run(
        'train', 'configs/demo/search.py', '--work-dir', folder, *extra,
        '--cfg-options', *SHORT, f'train_cfg.max_iters={iters}', *options, **kwargs,
    )  # fmt: skip


@pytest.fixture(scope='module')
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp('search')
    result = search(folder, 24, 'custom_hooks.0.interval=5')
    return folder, result.stdout + result.stderr


@pytest.mark.slow
def test_search_writes_what_it_found(searched):
    folder, log = searched
    structure = Structure.load(folder / 'structure.json')
    share = structure.resources['macs'] / structure.supernet['macs']
    assert 0.99 * 0.02 <= share <= 0.02
    assert 'backbone.timm_model.layer1.0.conv1' in (folder / 'units.md').read_text()
    assert (folder / 'widths.png').read_bytes().startswith(b'\x89PNG')
    line = next(x for x in log.splitlines() if 'Iter(train) [20/24]' in x)
    for word in ('eta:', 'task:', 'loss_resource:', 'macs:', 'macs_target:'):
        assert word in line
    assert torch.load(folder / 'slim.pth', weights_only=True)
    cost = json.loads((folder / 'cost.json').read_text())
    assert cost['samples'] == 24 * 128 and cost['macs'] == 3 * 24 * 128 * structure.supernet['macs']


@pytest.mark.slow
def test_checkpoints_hold_no_pickled_objects_and_original_keys(searched):
    folder, _ = searched
    state = torch.load(folder / 'iter_24.pth', weights_only=True)
    keys = list(state['state_dict'])
    assert 'architecture.backbone.timm_model.layer1.0.conv1.weight' in keys
    assert all(k.startswith(('architecture.', 'structure.')) for k in keys)
    assert not list(folder.glob('*.tmp'))


@pytest.mark.slow
def test_retrain_test_and_slim(searched, tmp_path):
    folder, _ = searched
    model = f'model.structure={folder}/structure.json'
    out = tmp_path / 'retrain'
    run(
        'train', 'configs/demo/retrain.py', '--work-dir', out, '--cfg-options', *SHORT, model,
        'train_cfg.max_iters=8', 'train_cfg.val_interval=8', f'model.checkpoint={folder}/slim.pth',
    )  # fmt: skip
    state = torch.load(out / 'iter_8.pth', weights_only=True)['state_dict']
    assert {k: v.shape for k, v in state.items()} == {
        k: v.shape for k, v in torch.load(folder / 'slim.pth', weights_only=True).items()
    }
    metrics = tmp_path / 'metrics.json'
    run(
        'test', 'configs/demo/retrain.py', out / 'iter_8.pth', '--work-dir', tmp_path / 'test', '--out', metrics,
        '--cfg-options', *SHORT, model,
    )  # fmt: skip
    log = next(out.glob('*/vis_data/scalars.json')).read_text().splitlines()
    trained = [json.loads(x)['accuracy/top1'] for x in log if 'accuracy/top1' in x][-1]
    assert json.loads(metrics.read_text())['accuracy/top1'] == pytest.approx(trained)
    # Slim weights from the supernet's checkpoint: those that the search wrote.
    slim = run(
        'slim', 'configs/demo/search.py', folder / 'structure.json', '--checkpoint', folder / 'iter_24.pth',
        '--out', tmp_path / 'slim', '--onnx',
    )  # fmt: skip
    assert 'agrees with the slim model' in slim.stdout
    a = torch.load(tmp_path / 'slim/slim.pth', weights_only=True)
    b = torch.load(folder / 'slim.pth', weights_only=True)
    assert all(torch.equal(a[k], b[k]) for k in b) and set(a) == set(b)
    # The config that it writes evaluates by itself.
    again = run(
        'test', tmp_path / 'slim/config.py', tmp_path / 'slim/slim.pth', '--work-dir', tmp_path / 'test2',
        '--cfg-options', *DATA,
    )  # fmt: skip
    assert 'accuracy/top1' in again.stdout + again.stderr


@pytest.mark.slow
def test_killed_and_resumed_search_ends_in_the_same_structure(tmp_path):
    search(tmp_path / 'whole', 20)
    broken = tmp_path / 'broken'
    options = ['--cfg-options', *SHORT, 'train_cfg.max_iters=20']
    process = subprocess.Popen(
        command('train', 'configs/demo/search.py', '--work-dir', broken, *options),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.time() + 240
    while not (broken / 'iter_8.pth').exists() and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (broken / 'iter_8.pth').exists() and not (broken / 'structure.json').exists()
    # Between writing a checkpoint and naming it, a kill leaves MMEngine's note one behind.
    (broken / 'last_checkpoint').write_text(str(broken / 'iter_4.pth'))
    search(broken, 20, extra=['--resume'])
    assert (broken / 'structure.json').read_text() == (tmp_path / 'whole/structure.json').read_text()
    a, b = (torch.load(tmp_path / f / 'slim.pth', weights_only=True) for f in ('whole', 'broken'))
    assert all(torch.equal(a[k], b[k]) for k in a)
    a, b = (json.loads((tmp_path / f / 'cost.json').read_text()) for f in ('whole', 'broken'))
    assert a['samples'] == b['samples'] == 20 * 128 and a['macs'] == b['macs']


def test_an_old_checkpoint_goes_after_the_new_one_is_written(tmp_path):
    from types import SimpleNamespace

    from mmengine.logging import MessageHub

    from dms_mm.engine import KeepUntilSavedHook
    from dms_mm.engine.checkpoint import latest_checkpoint

    seen = []

    def save(out_dir, name, *args, **kwargs):
        (tmp_path / name).touch()
        seen.append(sorted(p.name for p in tmp_path.glob('*.pth')))

    runner = SimpleNamespace(
        message_hub=MessageHub.get_instance('checkpoints'), save_checkpoint=save, work_dir=str(tmp_path)
    )
    hook = KeepUntilSavedHook(interval=1, by_epoch=False, max_keep_ckpts=1, out_dir=str(tmp_path))
    hook.before_train(SimpleNamespace(**vars(runner), logger=SimpleNamespace(info=print), timestamp='', iter=0))
    hook.out_dir = str(tmp_path)
    for step in (9, 10, 11):
        hook._save_checkpoint_with_step(runner, step, {})
    assert seen == [['iter_9.pth'], ['iter_10.pth', 'iter_9.pth'], ['iter_10.pth', 'iter_11.pth']]
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'iter_11.pth') and len(list(tmp_path.glob('*.pth'))) == 1
    assert runner.message_hub.get_info('keep_ckpt_ids') == [11]


@pytest.mark.slow
def test_accumulation_ema_and_the_other_pipelines(searched, tmp_path):
    folder, _ = searched
    result = search(
        tmp_path / 'acc',
        8,
        'optim_wrapper.accumulative_counts=2',
        'custom_hooks.1.type=EMAHook',
        'train_cfg.val_interval=4',
    )
    assert '4 steps, rule' in result.stdout + result.stderr
    assert Structure.load(tmp_path / 'acc/structure.json').resources['macs'] > 0
    # The architecture's own weights, as a plain pretraining would leave them.
    state = torch.load(folder / 'iter_24.pth', weights_only=True)['state_dict']
    prefix = 'architecture.'
    plain = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    torch.save({'state_dict': plain}, tmp_path / 'pretrained.pth')
    for pipeline in ('p', 'p-'):
        out = tmp_path / pipeline
        search(out, 4, f'model.pipeline={pipeline}', f'model.pretrained={tmp_path}/pretrained.pth')
        after = torch.load(out / 'iter_4.pth', weights_only=True)['state_dict']
        name = 'backbone.timm_model.layer1.0.conv1.weight'
        assert torch.equal(after[prefix + name], plain[name]) == (pipeline == 'p-')
        share = Structure.load(out / 'structure.json')
        assert 0.0198 <= share.resources['macs'] / share.supernet['macs'] <= 0.02


@pytest.mark.slow
def test_plain_host_configs_and_uniform_scaling(tmp_path):
    config = tmp_path / 'plain.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/demo/retrain.py'\nmodel = dict(_delete_=True, **_base_.model.architecture)\n"
    )
    run('train', config, '--work-dir', tmp_path / 'plain', '--cfg-options', *SHORT, 'train_cfg.max_iters=2')
    assert not (tmp_path / 'plain/structure.json').exists()
    run('uniform', 'configs/demo/search.py', tmp_path / 'uniform.json', '--depth')
    structure = Structure.load(tmp_path / 'uniform.json')
    assert 0.0198 <= structure.resources['macs'] / structure.supernet['macs'] <= 0.02


@pytest.mark.slow
def test_two_processes_hold_the_same_structure(tmp_path):
    result = subprocess.run(
        ['bash', 'tools/dist_train.sh', 'configs/demo/search.py', '2', '--work-dir', str(tmp_path), '--cfg-options',
         *SHORT, 'train_cfg.max_iters=6', 'train_dataloader.batch_size=32'],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, 'PORT': str(free_port()), 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert 0.0198 <= Structure.load(tmp_path / 'structure.json').resources['macs'] / 3768896 <= 0.02


BAD = {
    'unknown unit': (['model.space.units.nope.step=2'], "unit 'nope'"),
    'above one': (['model.target.macs=1.5'], 'above the supernet'),
    'unreachable': (['model.target.macs=0.00001'], 'out of reach'),
    'unknown rule': (['model.search.rule=nope'], "unknown rule 'nope'"),
    'unknown pipeline': (['model.pipeline=q'], "unknown pipeline 'q'"),
    'no weights': (['model.pipeline=p', 'model.pretrained=/nowhere.pth'], 'does not exist'),
}


def failing(capfd, tool, *args):
    """The last line that a tool prints for a user's error, run inside this process (a fresh one takes seconds)."""
    module = importlib.import_module(f'dms_mm.cli.{tool}')
    assert module.main([str(a) for a in args]) == 2
    out, err = capfd.readouterr()
    assert 'Iter(train)' not in out + err
    assert err.strip().splitlines()[-1].startswith('error: ')
    return err.strip().splitlines()[-1]


@pytest.mark.parametrize('case', list(BAD))
def test_wrong_configs_end_in_one_line_before_training(case, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    options, message = BAD[case]
    search = ['configs/demo/search.py', '--work-dir', tmp_path, '--cfg-options', *SHORT]
    assert message in failing(capfd, 'train', *search, *options)


@pytest.mark.slow
def test_foreign_and_truncated_files_end_in_one_line(searched, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    folder, _ = searched
    good = Structure.load(folder / 'structure.json')
    good.shapes = {f'x.{k}': v for k, v in good.shapes.items()}
    good.slices = {f'x.{k}': v for k, v in good.slices.items()}
    good.save(tmp_path / 'foreign.json')
    (tmp_path / 'cut.json').write_text((folder / 'structure.json').read_text()[:500])
    whole = (folder / 'iter_24.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(whole[: len(whole) // 2])
    retrain = ['configs/demo/retrain.py', '--work-dir', tmp_path / 'w', '--cfg-options', *SHORT]
    search = ['configs/demo/search.py', '--work-dir', tmp_path / 'w']
    slim = ['configs/demo/search.py', folder / 'structure.json', '--checkpoint', tmp_path / 'cut.pth']
    for tool, args, message in (
        ('train', [*retrain, f'model.structure={tmp_path}/foreign.json'], 'another architecture'),
        ('train', [*retrain, f'model.structure={tmp_path}/cut.json'], 'damaged'),
        ('train', [*search, '--resume', tmp_path / 'cut.pth'], 'truncated'),
        ('test', ['configs/demo/search.py', tmp_path / 'cut.pth'], 'truncated'),
        ('train', ['nowhere.py'], 'does not exist'),
        ('slim', slim, 'truncated'),
    ):
        assert message in failing(capfd, tool, *args)


@pytest.mark.slow
def test_a_wrong_config_gives_a_non_zero_exit(tmp_path):
    result = search(tmp_path, 4, 'model.target.macs=1.5', ok=False)
    assert result.returncode == 2 and result.stderr.strip().splitlines()[-1].startswith('error: ')


def test_help_explains_itself():
    text = run('train', '--help').stdout
    for word in ('structure.json', '--resume', '--amp', '--work-dir', '--cfg-options', 'dist_train.sh', 'retrain'):
        assert word in text
