"""Every config file of the families: costs what its paper says, then searches, makes slim and retrains, on JPEG files.

One config of each architecture runs as it is (``FULL``). The others run through the same files at 64 px and with fewer
blocks or channels, to the same share of their supernet.
"""

import functools
import json
import math
from pathlib import Path

import mmengine.config.utils
import pytest
import torch
import yaml
from mmengine.registry import DATASETS, init_default_scope
from yapf.yapflib import yapf_api

from builders.imagenet import make_imagenet

pytest.importorskip('mmpretrain')
from builders.short_runs import counted_macs, shortened, train  # noqa: E402
from dms_mm.algorithms.schedule import Schedule  # noqa: E402
from dms_mm.cli.common import load_config  # noqa: E402
from dms_mm.cli.train import parse  # noqa: E402
from dms_mm.models.build import build_architecture  # noqa: E402
from dms_mm.registry import plain  # noqa: E402

ROOT = Path(__file__).parents[2]
FAMILIES = ('efficientnet', 'efficientnet/timm', 'deit', 'deit/timm', 'resnet', 'mobilenetv2')
FULL = (
    'efficientnet/search_np_en-b0',
    'deit/search_np_deit-t',
    'resnet/search_p_r50-1.6g',
    'mobilenetv2/search_np_mbv2',
)


def found(*patterns):
    paths = [p for f in FAMILIES for x in patterns for p in (ROOT / 'configs' / f).glob(x)]
    return sorted(str(p.relative_to(ROOT / 'configs'))[:-3] for p in paths)


def divisible(value):
    """Channels as the MobileNet and EfficientNet papers round them."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def inverted_bottlenecks(table, width, depth, size, squeeze, stem, last):
    """MACs of a network of inverted bottlenecks, from the table in its paper alone."""
    size = math.ceil(size / 2)
    here = divisible(stem * width)
    macs = 27 * here * size**2
    for expand, channels, count, stride, kernel in table:
        for i in range(math.ceil(count * depth)):
            out, inner = divisible(channels * width), here * expand
            macs += here * inner * size**2 if expand > 1 else 0
            size = math.ceil(size / stride) if i == 0 else size
            macs += inner * kernel**2 * size**2 + inner * out * size**2
            macs += 2 * inner * max(1, here // 4) if squeeze else 0
            here = out
    return macs + here * last * size**2 + last * 1000


B0 = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
]
MBV2 = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 32, 3, 2, 3),
    (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3),
    (6, 320, 1, 1, 3),
]


def published_macs(name, shape):
    """What the supernet of a config costs, by the papers of the architectures."""
    size = shape[-1]
    if 'en-b1' in name or 'en-b2' in name:
        return inverted_bottlenecks(B0, 2.0, 3.1, size, True, 32, 2560)
    if 'en-' in name:
        return inverted_bottlenecks(B0, 1.4, 1.8, size, True, 32, 1792)
    if 'mbv2' in name:
        return inverted_bottlenecks(MBV2, 1.5, 2.0, size, False, 32, 1920)
    if 'deit' in name:
        # Table 5 of DeiT has 4.6G for 12 blocks; patches and classifier are under 2% of it.
        return 4.6e9 * 16 / 12
    return 7.80e9 if 'r101' in name else 4.09e9 if 'r50-' in name else 11.51e9


TABLE = {
    'en-350': 0.35e9, 'en-b0': 0.39e9, 'en-450': 0.45e9, 'en-b1': 0.68e9, 'en-b2': 1.1e9, 'deit-t': 1.3e9,
    '-1g': 1.0e9, 'np_r50': 4.0e9, 'r50-1.6g': 1.6e9, 'r50-3g': 3.0e9, 'mbv2': 0.3e9,
}  # fmt: skip


@pytest.fixture(scope='session', autouse=True)
def spare_mmengine_what_costs_more_than_the_runs():
    """All metafiles of a library are read for every ``library::``, and a config is formatted six times for its log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmengine.config.utils, 'load', functools.cache(mmengine.config.utils.load))
        patch.setattr(yapf_api, 'FormatCode', lambda code, **options: (code, False))
        yield


@pytest.fixture(scope='session')
def imagenet(tmp_path_factory):
    return make_imagenet(tmp_path_factory.mktemp('imagenet'))


@pytest.fixture(scope='session')
def pretrained(tmp_path_factory):
    """Weights of an architecture as a pretraining would leave them."""
    folder, done = tmp_path_factory.mktemp('pretrained'), {}

    def make(config):
        key = repr(config.model.architecture)
        if key not in done:
            done[key] = folder / f'{len(done)}.pth'
            model = build_architecture(config.model.architecture, config.data_preprocessor)
            torch.save({'state_dict': model.state_dict(), 'meta': {}}, done[key])
        return done[key]

    return make


def config_of(path):
    return load_config(parse([str(path)]))


def path_of(name):
    return ROOT / 'configs' / f'{name}.py'


def partner(name):
    """The config that trains on what a search found, or None."""
    folder, _, short = name.rpartition('/')
    target = short.split('_')[-1]
    for kind in {'np': ('retrain_',), 'p': ('finetune_',), 'p-minus': ('finetune_',)}[short.split('_')[1]]:
        path = ROOT / 'configs' / folder / f'{kind}{target}.py'
        if path.exists():
            return f'{folder}/{kind}{target}'
    return None


def without_rates(architecture):
    plain = {k: dict(v) if isinstance(v, dict) else v for k, v in architecture.items()}
    if isinstance(plain.get('head'), dict):
        plain['head'].pop('dropout_rate', None)
    return plain


SIZES = {}


def image_size(dataset, root):
    if repr(dataset) not in SIZES:
        init_default_scope('mmpretrain')
        image = DATASETS.build({**dataset, 'data_root': str(root)})[0]['inputs']
        SIZES[repr(dataset)] = tuple(image.shape)
    return SIZES[repr(dataset)]


@pytest.mark.parametrize('name', found('search_*.py'))
def test_supernet_target_and_data_are_those_of_the_papers(name, imagenet):
    config = config_of(path_of(name))
    shape, goal = config.model.input_shape, next(v for k, v in TABLE.items() if k in name)
    metafile = yaml.safe_load((ROOT / 'configs' / name.split('/')[0] / 'metafile.yml').read_text())
    entry = next(m for m in metafile['Models'] if m['Config'] == f'configs/{name}.py')
    assert config.model.target.macs == entry['Metadata']['FLOPs'] == goal
    assert abs(counted_macs(config.model.architecture, shape) / published_macs(name, shape) - 1) < 0.02
    retrain = config_of(path_of(partner(name))) if partner(name) else config
    # Only dropout may differ.
    assert without_rates(retrain.model.architecture) == without_rates(config.model.architecture)
    for c in (config, retrain):
        for loader in (c.train_dataloader, c.val_dataloader):
            assert image_size(loader.dataset, imagenet) == tuple(shape)


@pytest.mark.parametrize('name', [n for n in found('search_*.py') if 'en-450' not in n])  # theirs is the next test
def test_the_target_falls_once_the_learning_rate_is_up(name):
    config = config_of(path_of(name))
    epochs = config.train_cfg.get('max_epochs', 1)
    schedulers = config.param_scheduler if isinstance(config.param_scheduler, list) else [config.param_scheduler]
    warmups = [s for s in schedulers if s.type == 'LinearLR' and s.get('by_epoch', True)]
    ends = max((s.end for s in warmups), default=0) / epochs
    search = {'warmup': 0.1, 'ramp': 0.4, **config.model.get('search', {})}
    assert ends < 0.5 or search['warmup'] >= ends and search['warmup'] + search['ramp'] < 0.95


def test_efficientnets_are_searched_as_the_authors_script_does():
    """Four epochs of EN-450: targets, what is hard, and which rate the ratios have."""
    for name in ('efficientnet/search_np_en-450', 'efficientnet/timm/search_np_timm-en-450'):
        config = config_of(path_of(name))
        options = plain(config.model.search)
        assert options['rule']['optimizer'] == dict(
            type='dms_mm.RMSpropTF', lr=2e-5, alpha=0.9, eps=1e-3, momentum=0.9
        )  # fmt: skip
        assert [h for h in config.custom_hooks if h['type'] == 'dms_mm.DMSHook'][0]['by_epoch']
        shares = {k: options[k] for k in ('warmup', 'ramp', 'widths_only')}
        schedule = Schedule(4 * 1668, **shares, epochs=config.train_cfg.max_epochs)
        begins = [1668 * e for e in range(4)]
        assert [round(0.296 ** schedule.done(s), 3) for s in begins] == [0.544, 0.296, 0.296, 0.296]
        assert [0.296 ** schedule.done(s + 1667) for s in begins] == [0.296 ** schedule.done(s) for s in begins]
        assert [schedule.hard(s) for s in begins] == [False, False, False, True] and not schedule.hard(3 * 1668 - 1)


@pytest.mark.slow
@pytest.mark.parametrize('name', found('search_*.py'))
def test_search_slim_and_retrain(name, imagenet, pretrained, tmp_path):
    full, more = name in FULL, {}
    if config_of(path_of(name)).model.get('pretrained'):
        ready = config_of(shortened(path_of(name), imagenet, tmp_path, False, full))
        more['model.pretrained'] = pretrained(ready)
    config = train(path_of(name), imagenet, tmp_path / 'search', 'distill' in name, full, **more)
    structure = json.loads((tmp_path / 'search/structure.json').read_text())
    macs, supernet = structure['resources']['macs'], structure['supernet']['macs']
    if full:
        goal = next(v for k, v in TABLE.items() if k in name)
        assert abs(supernet / published_macs(name, config.model.input_shape) - 1) < 0.02
    else:
        goal = config.model.target.macs * supernet
        assert supernet == counted_macs(config.model.architecture, config.model.input_shape)
    assert 0.99 * goal <= macs <= goal
    retrain = partner(name)
    if retrain is None:
        return
    given = {'model.structure': tmp_path / 'search/structure.json'}
    if config_of(path_of(retrain)).model.get('checkpoint'):
        given['model.checkpoint'] = tmp_path / 'search/slim.pth'
    train(path_of(retrain), imagenet, tmp_path / 'retrain', full=full, **given)
    folder, short = retrain.rsplit('/', 1)
    for kind in ('retrain_distill_', 'retrain_rsb-a1_'):
        other = f'{folder}/{short.replace("retrain_", kind)}'
        if '_np_' in name and 'distill' not in name and path_of(other).exists():
            train(path_of(other), imagenet, tmp_path / kind, 'distill' in kind, full, **given)


@pytest.mark.slow
@pytest.mark.parametrize('name', found('pretrain_*.py'))
def test_pretrain(name, imagenet, tmp_path):
    train(path_of(name), imagenet, tmp_path, full=False)


def test_every_config_is_run():
    """By one of the tests above, alone or as the second half of a search."""
    run = set(found('search_*.py', 'pretrain_*.py'))
    for name in list(run):
        other = partner(name) if 'search_' in name else None
        if other:
            run |= {other, other.replace('retrain_', 'retrain_distill_'), other.replace('retrain_', 'retrain_rsb-a1_')}
    assert set(found('[!_]*.py')) <= run
