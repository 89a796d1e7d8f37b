"""YOLOv8 in MMYOLO: searched, retrained, evaluated by COCO metrics and exported, on pasted digits."""

import copy
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch.utils.flop_counter import FlopCounterMode

if importlib.util.find_spec('mmyolo') is None:
    pytest.skip('needs mmyolo', allow_module_level=True)
import dms_mm
from builders.detections import same_detections
from builders.processes import free_port, run
from dms_mm.models.hosts import import_scope
from dms_mm.registry import MODELS, register_all

ROOT = Path(__file__).parents[2]
# Digits, because a package brings them; the garments differ in nothing but their names.
TINY = ('--data', 'digits', '--images', '16', '8', '8')
CLASSES = 'zero,one,two,three,four,five,six,seven,eight,nine'
ENVIRONMENT = {'NO_ALBUMENTATIONS_UPDATE': '1'}


def convert(out, *options):
    script = ROOT / 'tools/dataset_converters/fashion_scenes.py'
    result = subprocess.run(
        [sys.executable, str(script), str(out), *options], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return convert(tmp_path_factory.mktemp('scenes'), *TINY)


def test_scenes_are_coco_and_the_same_for_a_seed(scenes, tmp_path):
    from pycocotools.coco import COCO

    again = convert(tmp_path / 'again', *TINY)
    other = convert(tmp_path / 'other', '--data', 'digits', '--images', '2', '2', '2', '--seed', '1')

    def marks(root):
        return {
            str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob('*') if p.is_file()
        }

    assert marks(scenes) == marks(again) and len(marks(scenes)) == 35
    assert marks(other)['train/000000.jpg'] != marks(scenes)['train/000000.jpg']
    coco = COCO(str(scenes / 'annotations/train.json'))
    assert len(coco.getImgIds()) == 16 and len(coco.getCatIds()) == 10
    for annotation in coco.loadAnns(coco.getAnnIds()):
        x, y, w, h = annotation['bbox']
        assert w >= 6 and h >= 6 and x >= 0 and y >= 0 and x + w <= 256 and y + h <= 256


def options(root, **more):
    given = {f'{s}_dataloader.dataset.data_root': f'{root}/' for s in ('train', 'val', 'test')}
    given |= {f'{s}_dataloader.dataset.metainfo.classes': CLASSES for s in ('train', 'val', 'test')}
    given |= {f'{s}_evaluator.ann_file': f'{root}/annotations/{s}.json' for s in ('val', 'test')}
    given |= {'train_dataloader.batch_size': 8, 'default_hooks.logger.interval': 1, 'train_cfg.max_epochs': 2}
    given |= {'train_cfg.val_interval': 2, **more}
    return ['--cfg-options', *(f'{k}={v}' for k, v in given.items())]


@pytest.fixture(scope='module')
def searched(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp('yolov8')
    run(
        'train', 'configs/yolov8/search_np_fashion-scenes.py', '--work-dir', folder, *options(scenes), env=ENVIRONMENT
    )  # fmt: skip
    return folder


@pytest.mark.slow
def test_search_retrain_evaluate_export(searched, scenes, tmp_path):
    structure = json.loads((searched / 'structure.json').read_text())
    assert 0.99 * 0.2528e9 <= structure['resources']['macs'] <= 0.2528e9
    assert {u['kind'] for u in structure['units'].values()} == {'channel', 'depth'}
    # Every weight is trained, those behind masks too: MMYOLO's constructor collects attributes.
    log = next(searched.glob('*/*.log')).read_text()
    assert 'Optimizer groups: 79 .bias, 79 conv.weight, 73 other' in log
    given = {'model.structure': searched / 'structure.json', 'custom_hooks.1.switch_epoch': 1}
    retrain = 'configs/yolov8/retrain_fashion-scenes.py'
    run('train', retrain, '--work-dir', tmp_path / 'retrain', *options(scenes, **given), env=ENVIRONMENT)
    run(
        'test', retrain, tmp_path / 'retrain/epoch_2.pth', '--work-dir', tmp_path / 'test', '--out',
        tmp_path / 'metrics.json', *options(scenes, **given), env=ENVIRONMENT,
    )  # fmt: skip
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    # MMYOLO's own tools, on the slim detector.
    log = run(
        'host', 'mmyolo', 'test', retrain, tmp_path / 'retrain/epoch_2.pth', '--work-dir', tmp_path / 'theirs',
        *options(scenes, **given), env=ENVIRONMENT,
    )  # fmt: skip
    found = re.search(r'coco/bbox_mAP: (\S+)', log.stdout + log.stderr)
    assert found and float(found[1]) == pytest.approx(metrics['coco/bbox_mAP'], abs=1e-4)
    text = run(
        'host', 'mmyolo', 'analysis_tools/get_flops', retrain, '--shape', 160, *options(scenes, **given),
        env=ENVIRONMENT,
    ).stdout  # fmt: skip
    # Its counter also counts norms and activations.
    assert 0.25 <= float(re.search(r'Model Flops: (\S+)G', text)[1]) < 0.27, text[-300:]
    slim = run(
        'slim', 'configs/yolov8/search_np_fashion-scenes.py', searched / 'structure.json', '--checkpoint',
        tmp_path / 'retrain/epoch_2.pth', '--out', tmp_path / 'slim', '--onnx', env=ENVIRONMENT,
    )  # fmt: skip
    assert 'agrees with the slim model' in slim.stdout


@pytest.mark.slow
def test_two_processes_synchronise_norms_and_hold_the_same_masks(scenes, tmp_path):
    config = tmp_path / 'search.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/yolov8/search_np_fashion-scenes.py'\n"
        "custom_imports = dict(imports=['builders.same_on_ranks'], allow_failed_imports=False)\n"
        "custom_hooks = [*_base_.custom_hooks, dict(type='SameOnRanks')]\n"
    )
    result = subprocess.run(
        ['bash', 'tools/dist_train.sh', str(config), '2', '--work-dir', str(tmp_path / 'search'),
         *options(scenes, **{'train_dataloader.batch_size': 4})],
        cwd=ROOT, capture_output=True, text=True, timeout=400,
        env={**os.environ, **ENVIRONMENT, 'PORT': str(free_port()), 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1',
             'PYTHONPATH': f'{ROOT}/tests'},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    assert (result.stdout + result.stderr).count('masks equal on 2 ranks') == 4
    structure = json.loads((tmp_path / 'search/structure.json').read_text())
    assert 0.99 * 0.2528e9 <= structure['resources']['macs'] <= 0.2528e9


def build(architecture):
    """A YOLOv8 with norms that matter."""
    register_all()
    import_scope('mmyolo')
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import init_default_scope

    init_default_scope('mmyolo')
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(architecture)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.6, 1.4)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    return model


def randomly_cut(model, shape):
    """A search space over the model with a random hard structure."""
    space = dms_mm.make_searchable(model, torch.zeros(2, *shape), forward_fn=lambda m, x: m(x, mode='tensor'))
    generator = torch.Generator().manual_seed(1)
    space.set_keep(
        {
            n: int(torch.randint(max(1, u.size // 2), u.size + 1, (1,), generator=generator))
            for n, u in space.units.items()
        }
    )
    return space


def write_truth(samples, path):
    """A COCO file of each image's first predictions, moved a little."""
    marks = []
    for image, sample in enumerate(samples):
        kept = sample.pred_instances[:12]
        for box, label in zip(kept.bboxes.tolist(), kept.labels.tolist()):
            w, h = box[2] - box[0], box[3] - box[1]
            box = [box[0] + 0.1 * w * (len(marks) % 4), box[1], w, h]
            marks.append(dict(id=len(marks) + 1, image_id=image, category_id=label, bbox=box, area=w * h, iscrowd=0))
    images = [dict(id=i, width=160, height=160) for i in range(len(samples))]
    categories = [dict(id=i, name=n) for i, n in enumerate(CLASSES.split(','))]
    path.write_text(json.dumps(dict(images=images, annotations=marks, categories=categories)))


def coco_metrics(found, path):
    from mmdet.evaluation.metrics import CocoMetric
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = CocoMetric(ann_file=str(path), metric='bbox')
        metric.dataset_meta = dict(classes=tuple(CLASSES.split(',')))
        metric.process({}, [s.to_dict() for s in found])
        return metric.evaluate(len(found))


@pytest.mark.slow
def test_slim_masked_and_reloaded_detector_predict_the_same(tmp_path):
    architecture = Config.fromfile(ROOT / 'configs/_base_/datasets/fashion_scenes_160.py').model.architecture
    space = randomly_cut(build(architecture), (3, 160, 160))
    from mmdet.structures import DetDataSample

    slim = space.slim().eval()
    assert type(slim) is type(space.model)
    space.structure().save(tmp_path / 'structure.json')
    reloaded = dms_mm.build_slim(build(architecture), tmp_path / 'structure.json').eval()
    reloaded.load_state_dict(slim.state_dict(), strict=True)
    models = (space.model, slim, reloaded)
    x = torch.rand(8, 3, 160, 160, generator=torch.Generator().manual_seed(2))
    meta = dict(ori_shape=(160, 160), img_shape=(160, 160), scale_factor=(1.0, 1.0), pad_param=None)

    def predict(model, **nms):
        model.bbox_head.test_cfg.update(max_per_img=nms.get('most', 300))
        model.bbox_head.test_cfg.nms.update(iou_threshold=nms.get('overlap', 0.7))
        with torch.no_grad():
            samples = [DetDataSample(metainfo=dict(meta, img_id=i)) for i in range(len(x))]
            return model(x, samples, mode='predict')

    # Of two neighbours with nearly equal scores, suppression keeps one or the other: all that come before it are equal.
    masked, *others = ([s.pred_instances for s in predict(m, most=10**5, overlap=1.0)] for m in models)
    assert {len(a) for a in masked} == {525 * 10}
    for found in others:
        assert all(same_detections(a, b) for a, b in zip(masked, found))
    # The comparison sees a missing box, one that is there twice instead of another, and a wrong one.
    first = masked[0]
    wrong = copy.deepcopy(first)
    wrong.bboxes[7, 2] += 0.01
    for other in (first[1:], first.cat([first[1:], first[1:2]]), wrong):
        assert same_detections(first, first) and not same_detections(first, other)
    masked, *others = (predict(m) for m in models)
    write_truth(masked, tmp_path / 'truth.json')
    metrics = coco_metrics(masked, tmp_path / 'truth.json')
    assert 0.1 < metrics['coco/bbox_mAP'] < 0.95
    for found in others:
        assert [len(s.pred_instances) for s in found] == [len(s.pred_instances) for s in masked]
        assert coco_metrics(found, tmp_path / 'truth.json') == pytest.approx(metrics, abs=2e-3)


@pytest.mark.slow
def test_switch_to_deploy_fuses_the_branches_of_a_slim_detector():
    """MMYOLO's YOLOv6 has RepVGG blocks; YOLOv8 has nothing to fuse, and the call leaves it as it is."""
    for name in ('yolov6/yolov6_n_syncbn_fast_8xb32-400e_coco.py', 'yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py'):
        config = Config.fromstring(f"_base_ = 'mmyolo::{name}'", '.py')
        space = randomly_cut(build(config.model), (3, 128, 128))
        from mmyolo.utils import switch_to_deploy

        slim = space.slim().eval().double()
        x = torch.rand(2, 3, 128, 128, dtype=torch.float64)
        with torch.no_grad():
            before, modules = slim(x, mode='tensor'), len(list(slim.modules()))
            switch_to_deploy(slim)
            after = slim(x, mode='tensor')
        assert (len(list(slim.modules())) < modules) == ('yolov6' in name)
        for a, b in zip(before, after):
            for y, z in zip(a, b):
                assert y is z is None or (y - z).abs().max() < 1e-8 * y.abs().max()


@pytest.mark.slow
def test_full_size_configs_pretrain_search_and_retrain(scenes, tmp_path):
    """The configs for COCO as they are, with two images of 640 px, one a step, in place of the data."""

    def train(name, **model):
        folder = tmp_path / name
        config = tmp_path / f'{name}.py'
        few = dict(batch_size=1, num_workers=0, persistent_workers=False)
        # Their 80 classes stay; the scenes have ten of them.
        classes = (*CLASSES.split(','), *map(str, range(10, 80)))
        data = dict(
            data_root=f'{scenes}/', ann_file='annotations/train.json', data_prefix=dict(img='train/'),
            metainfo=dict(classes=classes),
        )  # fmt: skip
        inherited = Config.fromfile(ROOT / f'configs/yolov8/{name}.py').custom_hooks
        child = dict(
            train_dataloader=dict(**few, dataset=dict(data, indices=2)),
            # Training ends after an epoch, by schedules left as long as they are.
            custom_hooks=[*inherited, dict(type='mmengine.OneEpoch', steps=2)],
            default_hooks=dict(logger=dict(interval=1), checkpoint=dict(interval=1)),
            model=model,
        )
        config.write_text(
            f"_base_ = '{ROOT}/configs/yolov8/{name}.py'\n"
            "custom_imports = dict(imports=['builders.one_epoch'], allow_failed_imports=False)\n"
            + ''.join(f'{k} = {v!r}\n' for k, v in child.items())
        )
        run(
            'train', config, '--work-dir', folder, '--no-validate',
            env={**ENVIRONMENT, 'PYTHONPATH': f'{ROOT}/tests'},
        )  # fmt: skip
        logs = [json.loads(x) for x in next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()]
        assert len(logs) == 2 and all(0 < x['loss'] < 1e5 for x in logs)
        return folder

    def found(folder):
        structure = json.loads((folder / 'structure.json').read_text())
        assert 0.99 * 4.2e9 <= structure['resources']['macs'] <= 4.2e9
        assert structure['supernet']['macs'] == full
        return str(folder / 'structure.json')

    model = build(Config.fromfile(ROOT / 'configs/_base_/supernets/yolov8-d05-w05.py').model.architecture).to('meta')
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 640, 640, device='meta'), mode='tensor')
    full = counter.get_total_flops() // 2
    pretrained = train('pretrain_yolov8') / 'epoch_1.pth'
    searched = train('search_np_yolov8-n')
    train('retrain_yolov8-n', structure=found(searched))
    searched = train('search_p_yolov8-n', pretrained=str(pretrained))
    train('finetune_yolov8-n', structure=found(searched), checkpoint=str(searched / 'slim.pth'))


def smaller(value, size):
    """A config with every picture size replaced: what a full-size recipe needs to run on a few small images."""
    if isinstance(value, dict):
        return type(value)({k: smaller(v, size) for k, v in value.items()})
    if isinstance(value, tuple) and len(value) == 2 and all(type(v) is int and v >= 320 for v in value):
        return (size, size)
    return type(value)(smaller(v, size) for v in value) if isinstance(value, (list, tuple)) else value


@pytest.mark.slow
@pytest.mark.parametrize('name', ['retinanet_r50_fpn', 'faster-rcnn_r50_fpn', 'rtmdet-tiny'])
def test_mmdetection_searches_and_retrains_by_inheritance(name, scenes, tmp_path):
    def write(kind, **model):
        config = Config.fromfile(ROOT / f'configs/mmdet/{kind}_{name}.py')
        config = Config(smaller(config.to_dict(), 128))
        classes = tuple(CLASSES.split(','))
        for split in ('train', 'val'):
            loader = config[f'{split}_dataloader']
            loader.update(batch_size=2, num_workers=0, persistent_workers=False)
            loader.dataset.update(
                indices=8 if split == 'train' else 4,
                data_root=f'{scenes}/', ann_file=f'annotations/{split}.json', data_prefix=dict(img=f'{split}/'),
                metainfo=dict(classes=classes),
            )  # fmt: skip
        config.val_evaluator.ann_file = str(scenes / 'annotations/val.json')
        architecture = config.model.architecture
        (architecture.roi_head.bbox_head if 'roi_head' in architecture else architecture.bbox_head).num_classes = 10
        # Weights of ImageNet would be downloaded.
        architecture.backbone.init_cfg = None
        config.train_cfg.update(max_epochs=1, val_interval=1)
        config.default_hooks.logger.interval = 1
        config.model.update(model)
        config.dump(tmp_path / f'{kind}.py')
        return tmp_path / f'{kind}.py'

    run('train', write('search', input_shape=(3, 128, 128)), '--work-dir', tmp_path / 'search', env=ENVIRONMENT)
    found = json.loads((tmp_path / 'search/structure.json').read_text())
    assert 0.495 <= found['resources']['macs'] / found['supernet']['macs'] <= 0.5
    given = {k: str(tmp_path / 'search' / f) for k, f in (('structure', 'structure.json'), ('checkpoint', 'slim.pth'))}
    run('train', write('retrain', **given), '--work-dir', tmp_path / 'retrain', env=ENVIRONMENT)
    logs = [
        json.loads(x) for x in next((tmp_path / 'retrain').glob('*/vis_data/scalars.json')).read_text().splitlines()
    ]
    # A detector that has learned nothing may give no boxes, and then there is no mAP.
    assert len([x for x in logs if 'loss' in x]) == 4 and set(logs[-1]) >= {'time', 'step'} and 'loss' not in logs[-1]
