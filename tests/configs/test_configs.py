"""Every config file of the families: builds, traces, searches, makes slim and retrains, on real JPEG files."""

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import builders.one_epoch  # noqa: F401
from builders.imagenet import make_imagenet

pytest.importorskip('mmpretrain')
from dms_mm.cli.common import load_config  # noqa: E402
from dms_mm.cli.train import parse  # noqa: E402
from dms_mm.cli.train import train as train_tool  # noqa: E402
from dms_mm.models.build import build_architecture  # noqa: E402

ROOT = Path(__file__).parents[2]
FAMILIES = ('efficientnet', 'efficientnet/timm', 'deit', 'resnet', 'mobilenetv2')


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
    return 11.51e9 if '_np_' in name else 4.09e9


TABLE = {
    'en-350': 0.35e9, 'en-b0': 0.39e9, 'en-450': 0.45e9, 'en-b1': 0.68e9, 'en-b2': 1.1e9, 'deit-t': 1.3e9,
    'np_r50': 4.0e9, 'r50-1.6g': 1.6e9, 'r50-3g': 3.0e9, 'mbv2': 0.3e9,
}  # fmt: skip


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


def config_of(name):
    return load_config(parse([str(ROOT / 'configs' / f'{name}.py')]))


def shortened(path, root, folder, with_teacher):
    """A child of the config with tiny data: 6 images by 2. Everything else stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg = Config.fromfile(path)
    hooks = [*cfg.get('custom_hooks', []), dict(type='mmengine.OneEpoch', steps=3)]
    child = dict(
        train_dataloader=dict(batch_size=2, num_workers=0, dataset=dict(data_root=str(root))),
        custom_hooks=[dict(h) for h in hooks],
        default_hooks=dict(logger=dict(interval=1)),
        val_dataloader=dict(batch_size=2, num_workers=0, dataset=dict(data_root=str(root))),
        vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
    )
    child['visualizer'] = dict(type='mmpretrain.UniversalVisualizer', vis_backends=child['vis_backends'])
    if 'max_iters' in cfg.train_cfg:
        child['train_cfg'] = dict(max_iters=3)
    if with_teacher:
        # An entry of the same kind that needs no download, its weights from a file.
        entry = dict(type='mmpretrain.TimmClassifier', model_name='mobilenetv3_small_050')
        torch.save(build_architecture(dict(entry)).state_dict(), folder / 'teacher')
        teacher = dict(_delete_=True, **entry)
        child['model'] = dict(distillation=dict(teacher=teacher, teacher_checkpoint=str(folder / 'teacher')))
    text = '\n'.join(f'{k} = {v!r}' for k, v in child.items())
    (folder / 'config.py').write_text(f'_base_ = {str(path)!r}\n{text}\n')
    return folder / 'config.py'


def train(name, root, folder, with_teacher=False, **more):
    path = shortened(ROOT / 'configs' / f'{name}.py', root, folder, with_teacher)
    options = ['--cfg-options', *(f'{k}={v}' for k, v in more.items())] if more else []
    # MMPretrain's own metrics, once a family: evaluation takes its time on a CPU.
    validate = 'mbv2' in str(name)
    train_tool([str(path), '--work-dir', str(folder), *([] if validate else ['--no-validate']), *options])
    lines = [json.loads(x) for f in folder.glob('*/vis_data/scalars.json') for x in f.read_text().splitlines()]
    logs = [x for x in lines if 'loss' in x]
    assert len(logs) == 3 and all(math.isfinite(x['loss']) for x in logs)
    assert not validate or {'accuracy/top1', 'accuracy/top5'} <= set(lines[-1])
    assert list(folder.glob('*/vis_data/events.out.tfevents.*'))
    assert [p for p in folder.glob('*.pth') if p.stem in ('epoch_1', 'iter_3')]
    assert not with_teacher or all('loss_KLDivergence' in x and 'loss_DIST' in x for x in logs)


def partner(name):
    """The config that trains on what a search found, or None."""
    folder, _, short = name.rpartition('/')
    target = short.split('_')[-1]
    for kind in {'np': ('retrain_',), 'p': ('finetune_',), 'p-minus': ('finetune_',)}[short.split('_')[1]]:
        path = ROOT / 'configs' / folder / f'{kind}{target}.py'
        if path.exists():
            return f'{folder}/{kind}{target}'
    return None


@pytest.mark.slow
@pytest.mark.parametrize('name', found('search_*.py'))
def test_search_slim_and_retrain(name, imagenet, pretrained, tmp_path):
    config = config_of(name)
    more = {}
    if config.model.get('pretrained'):
        more['model.pretrained'] = pretrained(config)
    train(name, imagenet, tmp_path / 'search', 'distill' in name, **more)
    structure = json.loads((tmp_path / 'search/structure.json').read_text())
    goal = next(v for k, v in TABLE.items() if k in name)
    assert 0.99 * goal <= structure['resources']['macs'] <= goal
    published = published_macs(name, config.model.input_shape)
    assert abs(structure['supernet']['macs'] / published - 1) < 0.02
    retrain = partner(name)
    if retrain is None:
        return
    given = {'model.structure': tmp_path / 'search/structure.json'}
    if config_of(retrain).model.get('checkpoint'):
        given['model.checkpoint'] = tmp_path / 'search/slim.pth'
    train(retrain, imagenet, tmp_path / 'retrain', **given)
    folder, short = retrain.rsplit('/', 1)
    for kind in ('retrain_distill_', 'retrain_rsb-a1_'):
        other = f'{folder}/{short.replace("retrain_", kind)}'
        if '_np_' in name and 'distill' not in name and (ROOT / 'configs' / f'{other}.py').exists():
            train(other, imagenet, tmp_path / kind, 'distill' in kind, **given)


@pytest.mark.slow
@pytest.mark.parametrize('name', found('pretrain_*.py'))
def test_pretrain(name, imagenet, tmp_path):
    train(name, imagenet, tmp_path)


def test_every_config_is_run():
    """By one of the tests above, alone or as the second half of a search."""
    run = set(found('search_*.py', 'pretrain_*.py'))
    for name in list(run):
        other = partner(name) if 'search_' in name else None
        if other:
            run |= {other, other.replace('retrain_', 'retrain_distill_'), other.replace('retrain_', 'retrain_rsb-a1_')}
    assert set(found('[!_]*.py')) <= run
