"""Candidates of a search through tools/train.py: from scratch and with kept weights."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

pytest.importorskip('mmpretrain')
from dms_mm import Structure  # noqa: E402
from dms_mm.cli.train import train  # noqa: E402
from dms_mm.engine import DMSHook, StructureLoop  # noqa: E402
from dms_mm.engine.candidates import Candidates  # noqa: E402
from dms_mm.models.build import build_architecture  # noqa: E402

CONFIG = Path(__file__).parents[2] / 'configs/demo/search_candidates.py'


@pytest.mark.parametrize('pipeline', ['np', 'p-'])
def test_equal_structures_score_alike_and_the_best_is_written(pipeline, tmp_path):
    given = {
        'train_cfg.max_iters': 12,
        'train_dataloader.batch_size': 8,
        'train_dataloader.dataset.name': 'digits',
        'custom_hooks.0.candidates.iters': 3,
        'custom_hooks.0.candidates.batches': 2,
        'custom_hooks.0.candidates.shares': '[1.0,0.0,1.0]',
        'train_dataloader.num_workers': 1,
        'train_dataloader.persistent_workers': True,
        'custom_hooks.0.candidates.metric': 'loss' if pipeline == 'np' else 'accuracy',
        'experiment_name': f'candidates-{pipeline}',
    }
    if pipeline == 'p-':
        config = Config.fromfile(CONFIG)
        weights = build_architecture(config.model.architecture, config.data_preprocessor).state_dict()
        torch.save(dict(state_dict=weights), tmp_path / 'weights.pth')
        given |= {'model.pipeline': 'p-', 'model.pretrained': str(tmp_path / 'weights.pth')}
        given['custom_hooks.0.candidates.optim_wrapper.optimizer.type'] = 'Adam'
    options = [f'{key}={value}' for key, value in given.items()]
    train([str(CONFIG), '--work-dir', str(tmp_path), '--no-validate', '--cfg-options', *options])
    cost = json.loads((tmp_path / 'cost.json').read_text())
    told = cost['candidates']
    assert told['scores'][0] == told['scores'][2] and told['shares'] == [1, 0, 1]
    assert told['chosen'] == told['shares'][told['scores'].index(max(told['scores']))]
    assert told['samples'] == 3 * (3 + 2) * 8 and cost['samples'] == told['samples'] + 12 * 8
    structure = Structure.load(tmp_path / 'structure.json')
    assert 0.99 * 0.02 <= structure.resources['macs'] / structure.supernet['macs'] <= 0.02
    assert all('confidence' in unit for unit in structure.units.values())
    state = torch.load(tmp_path / 'slim.pth', weights_only=True)
    assert len(state['backbone.timm_model.conv1.weight']) == structure.kept('backbone.timm_model.conv1')
    log = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert 'taken is ' in log and 'confidence of the search: ' in log


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(), 'candidates must be dict'),
        (3, 'candidates must be dict'),
        (dict(iters=0), 'iters=0 of candidates'),
        (dict(iters=2, batches=0.5), 'batches=0.5 of candidates'),
        (dict(iters=2, shares=(1.0,)), 'two or more numbers from 0 to 1'),
        (dict(iters=2, shares=(0.0, 2.0)), 'two or more numbers from 0 to 1'),
        (dict(iters=2, metric='los'), "did you mean 'loss'"),
        (dict(iters=2, share=(0, 1)), "did you mean 'shares'"),
    ],
)
def test_wrong_options_end_before_anything_is_trained(options, message):
    with pytest.raises(ValueError, match=message):
        DMSHook(candidates=options)


@pytest.mark.parametrize('iters', [1, 9, 10, 15, 19, 20, 40])
def test_the_rate_comes_to_its_height_and_falls(iters):
    optimizer = build_optim_wrapper(torch.nn.Linear(1, 1), dict(optimizer=dict(type='SGD', lr=1.0)))
    rates, seen = Candidates(iters)._rates(optimizer), []
    for _ in range(iters):
        seen.append(optimizer.get_lr()['lr'][0])
        for rate in rates:
            rate.step()
    assert max(seen) == pytest.approx(1.0, abs=0.02) and optimizer.get_lr()['lr'][0] < 0.05


def test_a_strategy_takes_no_candidates():
    runner = SimpleNamespace(train_loop=StructureLoop.__new__(StructureLoop))
    with pytest.raises(ValueError, match='of a search by gradients'):
        DMSHook(candidates=dict(iters=2)).before_train(runner)
