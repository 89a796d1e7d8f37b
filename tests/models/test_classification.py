"""Supernets by factors, distillation, and a search by inheritance for a model that no config here knows."""

import copy
import importlib.util
import math
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from torch import nn
from torch.nn import functional as F

pytest.importorskip('mmpretrain')
from mmengine.registry import init_default_scope

from dms_mm import build_slim, make_searchable
from dms_mm.models import Scaled, SlimModel
from dms_mm.models.distill import DIST, Distillation, KLDivergence
from dms_mm.models.hosts import import_scope
from dms_mm.registry import MODELS, register_all

ROOT = Path(__file__).parents[2]
register_all()
import_scope('mmpretrain')
from mmpretrain.models import MobileNetV2  # noqa: E402


def classifier(backbone, channels=1, neck=True, head='LinearClsHead'):
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=dict(type='mmpretrain.GlobalAveragePooling') if neck else None,
        head=dict(type=f'mmpretrain.{head}', num_classes=10, in_channels=channels),
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[10.0] * 3, std=[2.0] * 3),
    )


def shapes(model):
    return {k: tuple(v.shape) for k, v in model.state_dict().items()}


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')


def test_scaled_mobilenet_is_the_hand_written_one():
    class Deeper(MobileNetV2):
        arch_settings = [[t, c, 2 * n, s] for t, c, n, s in MobileNetV2.arch_settings]

    table, init = copy.deepcopy(MobileNetV2.arch_settings), MobileNetV2.__init__
    model = Scaled(classifier(dict(type='mmpretrain.MobileNetV2')), width=1.5, depth=2.0)
    assert shapes(model.backbone) == shapes(Deeper(widen_factor=1.5)) and type(model.backbone) is MobileNetV2
    assert model.head.fc.in_features == 1920 and model(torch.zeros(1, 3, 64, 64), mode='tensor').shape == (1, 10)
    # The library is as it was.
    assert MobileNetV2.arch_settings == table and MobileNetV2.__init__ is init


@pytest.mark.parametrize(
    ('small', 'large'),
    [
        (dict(type='mmpretrain.EfficientNet', arch='b0'), dict(type='mmpretrain.EfficientNet', arch='b2')),
        (dict(type='mmpretrain.TIMMBackbone', model_name='efficientnet_b0'),
         dict(type='mmpretrain.TIMMBackbone', model_name='efficientnet_b2')),
    ],
)  # fmt: skip
def test_scaled_efficientnet_is_the_larger_one_of_the_family(small, large):
    assert shapes(Scaled(classifier(small), 1.1, 1.2).backbone) == shapes(MODELS.build(large))


def test_scaled_vision_transformer_keeps_the_size_of_its_heads():
    backbone = dict(type='mmpretrain.VisionTransformer', arch='deit-small', img_size=32, patch_size=16)
    config = classifier(backbone, 384, neck=False, head='VisionTransformerClsHead')
    deeper = Scaled(config, depth=16 / 12, input_shape=(3, 32, 32)).backbone
    assert len(deeper.layers) == 16 and deeper.embed_dims == 384
    wider = Scaled(config, width=1.5, input_shape=(3, 32, 32))
    attention = wider.backbone.layers[0].attn
    assert (attention.embed_dims, attention.num_heads, attention.head_dims) == (576, 9, 64)
    assert wider.head.layers.head.in_features == 576
    space = make_searchable(wider, torch.zeros(2, 3, 32, 32), forward_fn=lambda m, x: m(x, mode='tensor'))
    assert {u.kind for u in space.units.values()} == {'channel', 'depth', 'head', 'head_dim'}


@pytest.mark.parametrize(
    ('factors', 'same'), [(dict(depth=16 / 12), 'small'), (dict(width=0.5), 'tiny'), (dict(width=2.0), 'base')]
)
def test_scaled_timm_transformer_is_the_one_that_timm_makes(factors, same):
    config = dict(type='mmpretrain.TimmClassifier', model_name='deit_small_patch16_224', num_classes=10, img_size=32)
    options = dict(depth=16) if 'depth' in factors else {}
    other = timm.create_model(f'deit_{same}_patch16_224', num_classes=10, img_size=32, **options)
    assert shapes(Scaled(config, **factors)) == shapes(other)


def test_scaled_detector_follows_the_librarys_own_factors():
    if importlib.util.find_spec('mmyolo') is None:
        pytest.skip('needs mmyolo')
    import_scope('mmyolo')
    init_default_scope('mmyolo')
    nano, small = (Config.fromfile(_mmyolo(f'yolov8/yolov8_{s}_syncbn_fast_8xb16-500e_coco.py')).model for s in 'ns')
    assert shapes(Scaled(nano, width=2.0)) == shapes(MODELS.build(small))
    assert len(Scaled(nano, depth=2.0).backbone.stage2[1].blocks) == 4


def _mmyolo(name):
    import mmyolo

    return Path(mmyolo.__file__).parent / '.mim/configs' / name


def test_scaling_what_has_no_sizes_is_an_error():
    class Fixed(torch.nn.Module):
        pass

    MODELS.register_module(name='FixedForTest', module=Fixed, force=True)
    with pytest.raises(ValueError, match='nothing in .*Fixed.* is known to count depth'):
        Scaled(dict(type='dms_mm.FixedForTest'), depth=2.0)
    with pytest.raises(ValueError, match='positive'):
        Scaled(classifier(dict(type='mmpretrain.MobileNetV2')), width=0)


# -- distillation
def test_losses_are_their_formulas():
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(2))

    def softmax(x, tau):
        e = np.exp(x.numpy() / tau)
        return e / e.sum(1, keepdims=True)

    p, q = softmax(t, 3.0), softmax(s, 3.0)
    expected = 0.5 * 9 * (p * np.log(p / q)).sum() / 5
    assert KLDivergence(tau=3.0, weight=0.5)(s, t).item() == pytest.approx(expected)
    p, q = softmax(t, 2.0), softmax(s, 2.0)
    inter = np.mean([1 - np.corrcoef(p[i], q[i])[0, 1] for i in range(5)])
    intra = np.mean([1 - np.corrcoef(p[:, j], q[:, j])[0, 1] for j in range(7)])
    assert DIST(beta=2.0, gamma=3.0, tau=2.0)(s, t).item() == pytest.approx(4 * (2 * inter + 3 * intra))


@pytest.fixture
def teacher(tmp_path):
    config = classifier(dict(type='mmpretrain.MobileNetV2', widen_factor=0.1), 1280)
    config['data_preprocessor'].update(mean=[0.0] * 3, std=[1.0] * 3)
    torch.manual_seed(1)
    model = MODELS.build(copy.deepcopy(config))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'teacher.pth')
    return model.eval(), dict(
        teacher=config, teacher_checkpoint=str(tmp_path / 'teacher.pth'), losses=[dict(type='dms_mm.KLDivergence')]
    )


def batch():
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(i) for i in range(4)]
    return dict(inputs=torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8), data_samples=samples)


def test_distilled_model_keeps_class_and_keys_and_learns_from_the_teachers_own_view(teacher, tmp_path):
    model, distillation = teacher
    student_config = classifier(dict(type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8), 64)
    space = make_searchable(
        MODELS.build(copy.deepcopy(student_config)), torch.zeros(2, 3, 32, 32),
        forward_fn=lambda m, x: m(x, mode='tensor'),
    )  # fmt: skip
    space.set_keep({n: max(1, u.size // 2) for n, u in space.units.items()})
    space.structure().save(tmp_path / 'structure.json')
    student = SlimModel(copy.deepcopy(student_config), tmp_path / 'structure.json', distillation=distillation)
    plain = build_slim(MODELS.build(copy.deepcopy(student_config)), tmp_path / 'structure.json')
    assert type(student) is type(plain) and shapes(student) == shapes(plain)
    raw = batch()
    data = student.data_preprocessor(copy.deepcopy(raw), training=True)
    student.train()
    losses = student(**data, mode='loss')
    assert set(losses) == {'loss', 'loss_KLDivergence'}
    # The teacher normalises by its own mean and deviation: it must see what it would see alone.
    with torch.no_grad():
        seen = model(raw['inputs'].float(), mode='tensor')
    logits = student(data['inputs'], mode='tensor')
    expected = KLDivergence()(logits, seen)
    assert losses['loss_KLDivergence'].item() == pytest.approx(expected.item(), rel=1e-4)
    losses['loss_KLDivergence'].backward()
    assert student.backbone.conv1.weight.grad.abs().sum() > 0
    # Copies (of an EMA) share the one teacher, and prediction doesn't need it.
    copied = copy.deepcopy(student).eval()
    assert len(copied(**data, mode='predict')) == 4


def test_search_with_a_teacher(teacher):
    _, distillation = teacher
    config = classifier(dict(type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8), 64)
    preprocessor = config.pop('data_preprocessor')
    model = MODELS.build(
        dict(type='dms_mm.DMS', architecture=config, target=dict(macs=0.5), input_shape=(3, 32, 32),
             data_preprocessor=preprocessor, distillation=distillation)
    )  # fmt: skip
    out = model.train()(**model.data_preprocessor(batch(), training=True), mode='loss')
    assert out['task'].item() == pytest.approx((out['loss'] + out['loss_KLDivergence']).item())
    assert not any('teacher' in k for k in model.state_dict())


def test_a_teacher_alone_at_a_size_of_its_own_beside_weights_that_are_kept(teacher, tmp_path):
    model, distillation = teacher
    config = classifier(dict(type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8, norm_eval=False), 64)
    preprocessor = config.pop('data_preprocessor')
    config['head'] = dict(config['head'], type='dms_mm.DropoutLinearClsHead', dropout_rate=0.9)
    torch.save({'state_dict': MODELS.build(copy.deepcopy(config)).state_dict()}, tmp_path / 'weights.pth')
    given = dict(distillation, teacher_size=(48, 40), task_weight=0.0)
    student = MODELS.build(
        dict(type='dms_mm.DMS', architecture=config, target=dict(macs=0.5), input_shape=(3, 32, 32), pipeline='p-',
             pretrained=str(tmp_path / 'weights.pth'), data_preprocessor=preprocessor, distillation=given)
    ).train()  # fmt: skip
    training = {type(m) for m in student.architecture.modules() if m.training}
    assert nn.BatchNorm2d in training and nn.Dropout not in training and not student.architecture.backbone.training
    assert not any(m.training for m in copy.deepcopy(student).eval().modules())
    raw = batch()
    data = student.data_preprocessor(copy.deepcopy(raw), training=True)
    losses = student(**data, mode='loss')
    assert losses['loss'] == 0 and losses['task'] == losses['loss_KLDivergence'] > 0
    with torch.no_grad():
        resized = F.interpolate(raw['inputs'].float(), (48, 40), mode='bicubic', antialias=True)
        expected = KLDivergence()(student(data['inputs'], mode='tensor'), model(resized, mode='tensor'))
    assert losses['loss_KLDivergence'].item() == pytest.approx(expected.item(), rel=1e-4)
    losses['loss_KLDivergence'].backward()
    assert student.space.bank.take_grad().ne(0).any()


def test_teachers_without_weights_or_with_other_classes_are_refused(teacher):
    _, distillation = teacher
    with pytest.raises(ValueError, match='has no weights'):
        Distillation(distillation['teacher'], distillation['losses'])
    with pytest.raises(ValueError, match='at least one loss'):
        Distillation(distillation['teacher'], [], distillation['teacher_checkpoint'])
    config = classifier(dict(type='mmpretrain.ResNet', depth=18), 512)
    config['head']['num_classes'] = 12
    student = MODELS.build(config).train()
    Distillation(**distillation).attach(student)
    with pytest.raises(ValueError, match=r'\(4, 10\) logits, the student \(4, 12\)'):
        student(**student.data_preprocessor(batch(), training=True), mode='loss')


# -- a model that nobody configured
@pytest.mark.slow
def test_readme_adds_a_search_by_inheritance(tmp_path):
    from builders.imagenet import make_imagenet
    from builders.short_runs import train

    text = (ROOT / 'README.md').read_text()
    section = text.split('## A model that nobody configured')[1].split('\n## ')[0]
    search, retrain = re.findall(r'```python\n(.*?)```', section, re.S)
    assert max(search.count('\n'), retrain.count('\n')) < 15
    root = make_imagenet(tmp_path / 'imagenet')
    (tmp_path / 'search.py').write_text(search)
    (tmp_path / 'retrain.py').write_text(retrain)
    train(tmp_path / 'search.py', root, tmp_path / 'found')
    structure = tmp_path / 'found/structure.json'
    train(tmp_path / 'retrain.py', root, tmp_path / 'again', **{'model.structure': structure})
    # RepVGG merges its branches for deployment; the slim one must do so too.
    config = Config.fromfile(tmp_path / 'retrain.py')
    model = SlimModel(config.model.architecture, structure, data_preprocessor=config.data_preprocessor).eval().double()
    x = torch.randn(1, 3, 96, 96, dtype=torch.float64)
    before = model(x, mode='tensor')
    model.backbone.switch_to_deploy()
    after = model(x, mode='tensor')
    assert (before - after).abs().max() < 1e-8 * before.abs().max() and math.isfinite(before.sum())
