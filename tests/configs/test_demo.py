"""The demo's searches with the paper's rule and its rivals: two steps of each by the tool."""

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain')
from dms_mm import Structure
from dms_mm.algorithms import selectors
from dms_mm.cli.train import train

CONFIGS = sorted((Path(__file__).parents[2] / 'configs/demo').glob('search*.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_two_steps_by_the_tool(path, tmp_path):
    options = ['train_cfg.max_iters=2', 'default_hooks.checkpoint.interval=2', 'train_dataloader.batch_size=8']
    options += [f'{x}_dataloader.dataset.name=digits' for x in ('train', 'val', 'test')]
    if path.stem == 'search_candidates':
        options += [f'custom_hooks.0.candidates.{x}=1' for x in ('iters', 'batches')]
    # Two runs of one name in one second would write to one log.
    options += [f'experiment_name={path.stem}']
    train([str(path), '--work-dir', str(tmp_path), '--no-validate', '--cfg-options', *options])
    structure = Structure.load(tmp_path / 'structure.json')
    assert 0.99 * 0.02 <= structure.resources['macs'] / structure.supernet['macs'] <= 0.02
    state = torch.load(tmp_path / 'iter_2.pth', weights_only=True)['state_dict']
    kind = {'search_get': 'GET', 'search_mes': 'MES', 'search_sns': 'SNS', 'search_minmax': 'MinMaxTopk'}
    trains = getattr(selectors, kind.get(path.stem, 'TopkBank')).trains
    assert f'structure.{trains}' in state and ('structure.optimizer_begun' in state) == (
        path.stem not in ('search', 'search_candidates', 'search_budgets')
    )
