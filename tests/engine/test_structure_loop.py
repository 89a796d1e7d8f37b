"""The configs of rivals through tools/train.py: two steps of training, a few structures, the same files at the end."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config

pytest.importorskip('mmpretrain')
from dms_mm import Structure  # noqa: E402
from dms_mm.cli.train import train as train_tool  # noqa: E402
from dms_mm.engine.held_out import split  # noqa: E402
from dms_mm.models.build import build_architecture  # noqa: E402
from dms_mm.registry import LOOPS, register_all  # noqa: E402

ROOT = Path(__file__).parents[2]
LEAVES = sorted(p.stem for p in (ROOT / 'configs/rivals').glob('search_*.py'))
FILES = ('structure.json', 'slim.pth', 'units.md', 'widths.png', 'cost.json')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Sixty-four images in the files that Fashion-MNIST comes in."""
    folder, chance = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for stem in ('train', 't10k'):
        pixels, labels = chance.integers(0, 256, (64, 28, 28), np.uint8), np.arange(64, dtype=np.uint8) % 10
        for kind, values in (('images-idx3', pixels), ('labels-idx1', labels)):
            head = struct.pack(f'>HBB{values.ndim}I', 0, 8, values.ndim, *values.shape)
            (folder / f'{stem}-{kind}-ubyte').write_bytes(head + values.tobytes())
    return folder


def run(name, images, folder, *options, loop=(), **model):
    """A config of rivals, short; ``loop`` and ``model`` are further settings of its parts."""
    config = Config.fromfile(ROOT / f'configs/rivals/{name}.py')
    trained = config.train_cfg.max_iters > 0 and 'pretrained' not in model
    strategy = dict(config.train_cfg.strategy)
    if 'evaluations' in strategy:
        strategy['evaluations'] = 3
    if strategy['type'] == 'Evolution':
        strategy.update(population=2, parents=1)
    for part in (strategy, strategy.get('judge', {})):
        if part.get('type') in ('SupernetJudge', 'Pruning'):
            part.update(batches=2)
    if strategy.get('judge', {}).get('type') == 'ZenScore':
        strategy['judge'].update(repeats=1, batch=2)
    loop = dict(loop, max_iters=2 if trained else 0, strategy=dict(_delete_=True, **strategy))
    data = dict(name='fashion-mnist', root=str(images))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'config.py').write_text(
        f'_base_ = {str(ROOT / f"configs/rivals/{name}.py")!r}\n'
        f'model, train_cfg = {model!r}, {loop!r}\n'
        f'train_dataloader = dict(batch_size=4, dataset={data!r})\n'
        f'val_dataloader = dict(dataset={data!r})\n'
        'default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1))\n'
        f'experiment_name = {"-".join(folder.parts[-2:])!r}\n'
    )
    before = torch.get_rng_state()
    train_tool([str(folder / 'config.py'), '--work-dir', str(folder), '--no-validate', *options])
    torch.set_rng_state(before)


@pytest.mark.parametrize('name', LEAVES)
def test_every_rival_ends_with_the_files_of_a_search(name, images, tmp_path):
    run(name, images, tmp_path / name)
    assert all((tmp_path / name / file).stat().st_size for file in FILES)
    structure = Structure.load(tmp_path / name / 'structure.json')
    macs, supernet = structure.resources['macs'], structure.supernet['macs']
    assert 0.99 * 0.1 <= macs / supernet <= 0.1
    cost = json.loads((tmp_path / name / 'cost.json').read_text())
    trained = 2 * 4 if 'zico' not in name and 'zen' not in name else 0
    assert cost['seconds'] > 0 and cost['samples'] >= trained
    # Whole batches through the whole supernet, and what was tried, through structures of a tenth.
    taylor = 2 * 4 if 'taylor' in name else 0
    rest = cost['samples'] - trained - taylor
    extra = cost['macs'] - 3 * supernet * (trained + taylor)
    assert rest * 0.099 * supernet <= extra <= 3 * rest * 0.1 * supernet
    assert (rest > 0) == ('l1' not in name and 'l2' not in name and 'taylor' not in name)
    assert torch.load(tmp_path / name / 'slim.pth', weights_only=True)


def test_an_interrupted_strategy_goes_on_from_its_last_generation(images, tmp_path, monkeypatch):
    from dms_mm.algorithms.strategies.evolution import Population

    run('search_evolution', images, tmp_path / 'whole')
    tried = Population.try_all

    def killed(self, structures):
        if len(self.scores):
            raise KeyboardInterrupt
        tried(self, structures)

    monkeypatch.setattr(Population, 'try_all', killed)
    with pytest.raises(KeyboardInterrupt):
        run('search_evolution', images, tmp_path / 'broken')
    monkeypatch.undo()
    assert not (tmp_path / 'broken/structure.json').exists()
    assert len(torch.load(tmp_path / 'broken/strategy.pth', weights_only=True)['scores']) == 2
    run('search_evolution', images, tmp_path / 'broken', '--resume')
    a, b = ((tmp_path / f / 'structure.json').read_text() for f in ('whole', 'broken'))
    assert a == b
    a, b = (json.loads((tmp_path / f / 'cost.json').read_text()) for f in ('whole', 'broken'))
    assert (a['macs'], a['samples']) == (b['macs'], b['samples'])


def test_pretrained_weights_are_judged_by_accuracy_and_kept(images, tmp_path):
    config = Config.fromfile(ROOT / 'configs/rivals/search_evolution.py')
    torch.manual_seed(5)
    weights = build_architecture(config.model.architecture, config.data_preprocessor).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'weights.pth')
    more = dict(pipeline='p-', pretrained=str(tmp_path / 'weights.pth'))
    run('search_evolution', images, tmp_path / 'run', loop=dict(metric='accuracy'), **more)
    state = torch.load(tmp_path / 'run/strategy.pth', weights_only=True)
    assert torch.equal(state['scores'] * 8, (state['scores'] * 8).round()), 'eight held-out images'
    structure = Structure.load(tmp_path / 'run/structure.json')
    slim, name = torch.load(tmp_path / 'run/slim.pth', weights_only=True), 'backbone.timm_model.conv1.weight'
    rows = [row.tolist() for row in weights[name]]
    assert len(slim[name]) == structure.kept('backbone.timm_model.conv1') and all(
        w.tolist() in rows for w in slim[name]
    )


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(strategy=dict(type='Evolutoin')), "did you mean 'Evolution'"),
        (dict(strategy=dict(type='Evolution', judge='ZiCo', populaton=3)), "did you mean 'population'"),
        (dict(strategy='Pruning', metric='los'), "did you mean 'loss'"),
        (dict(strategy='Pruning', max_iter=3), "did you mean 'max_iters'"),
        (dict(), 'needs strategy'),
        (dict(strategy='Evolution', sampled=0.5), "order='index'"),
    ],
)
def test_wrong_settings_end_before_anything_is_built(options, message):
    register_all()
    with pytest.raises(ValueError, match=message):
        LOOPS.get('StructureLoop').check(options)


def test_what_is_held_out_is_no_training_image(images):
    register_all()
    dataset = dict(type='dms_mm.SmallImages', name='fashion-mnist', root=str(images))
    runner = SimpleNamespace(seed=0, build_dataloader=lambda settings, seed: settings)
    training, held_out = split(runner, dict(dataset=dataset, batch_size=8, sampler=dict(shuffle=True)), 3, seed=5)
    parts = training['dataset'].indices, held_out['dataset'].indices
    assert len(parts[1]) == 24 and sorted(sum(parts, [])) == list(range(64))
    assert held_out['sampler'] == dict(type='DefaultSampler', shuffle=False) and training['sampler']['shuffle']
    assert len(training['dataset'].metainfo['classes']) == 10 and training['dataset'][0]['img'].shape == (28, 28, 1)
    again = split(runner, dict(dataset=dataset, batch_size=8, sampler=dict(shuffle=True)), 3, seed=5)[1]
    assert again['dataset'].indices == parts[1]
    with pytest.raises(ValueError, match='5 held-out batches are 40 of 64 samples'):
        split(runner, dict(dataset=dataset, batch_size=8), 5, seed=5)
