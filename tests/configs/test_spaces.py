"""The ready spaces: three steps of their configs at 64 px, and what they found is on the papers' grids."""

import math

import pytest
from mmengine.config import Config

from builders.imagenet import make_imagenet

pytest.importorskip('mmpretrain')
from builders.processes import ROOT  # noqa: E402
from builders.short_runs import SIZE, smaller_images, train  # noqa: E402
from dms_mm import Structure  # noqa: E402
from dms_mm.registry import plain  # noqa: E402

CONFIGS = sorted((ROOT / 'configs/spaces').glob('search_*.py'))


def small(path, folder):
    """The same network and grid on 64 px."""
    cfg = Config.fromfile(path)
    architecture = plain(cfg.model.architecture)
    if 'img_size' in architecture.get('backbone', {}):
        architecture['backbone']['img_size'] = SIZE
    elif 'model_name' in architecture:
        architecture['img_size'] = SIZE
    share = 0.72 if 'autoformer' in path.stem else list(cfg.model.target.macs)
    model = dict(architecture=dict(_delete_=True, **architecture), input_shape=(3, SIZE, SIZE), target=dict(macs=share))
    # Whether units can go is tested elsewhere.
    model['space'] = dict(verify='shapes')
    pipeline = smaller_images(cfg.train_dataloader.dataset.pipeline)
    (folder / path.name).write_text(
        f'_base_ = {str(path)!r}\nmodel = {model!r}\ntrain_dataloader = dict(dataset=dict(pipeline={pipeline!r}))\n'
    )
    return folder / path.name


def check_autoformer(structure):
    names = {'embed': ('projection', 'patch_embed.proj'), 'mlp': ('ffn.layers.0.0', 'mlp.fc1'), 'head': ('/head',)}
    kept = {k: {structure.kept(n) for n in structure.units if n.endswith(ends)} for k, ends in names.items()}
    assert kept['embed'] <= {320, 384, 448} and kept['head'] <= {5, 6, 7} and kept['mlp'] <= {1344, 1568, 1792}
    assert all(kept.values()) and len(structure.removed) <= 2
    assert not [u for u in structure.units.values() if u['kind'] == 'head_dim']


def check_ofa(structure):
    inputs = {2: 16, 6: 24, 10: 40, 14: 80, 18: 112}
    widths = {n: u for n, u in structure.units.items() if u['kind'] == 'channel'}
    assert len(widths) == 20
    for name in widths:
        layer = int(name.split('layer')[1].split('.')[0])
        before = inputs.get(layer) or {0: 24, 1: 40, 2: 80, 3: 112, 4: 160}[(layer - 2) // 4]
        assert structure.kept(name) in [before * k for k in (3, 4, 5, 6)], name
    stages = [structure.kept(n) for n, u in structure.units.items() if u['kind'] == 'depth']
    assert len(stages) == 5 and all(1 <= kept <= 3 for kept in stages)


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_three_steps_stay_on_the_grid(path, tmp_path):
    images = make_imagenet(tmp_path / 'imagenet')
    train(small(path, tmp_path), images, tmp_path / 'search')
    found = [Structure.load(p) for p in sorted((tmp_path / 'search').glob('structure*.json'))]
    assert len(found) == (3 if 'ofa' in path.stem else 1)
    for structure in found:
        share = structure.resources['macs'] / structure.supernet['macs']
        assert 0.3 < share < 1 and math.isfinite(share)
        (check_ofa if 'ofa' in path.stem else check_autoformer)(structure)
