"""Host libraries' own configs: inheritance into a retrain, and MMYOLO's YOLOv8."""

import copy
import os

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

import dms_mm
from builders.structures import harden_randomly
from dms_mm.compat import import_mmyolo
from dms_mm.models.hosts import import_scope
from dms_mm.registry import DATASETS, HOOKS, MODELS, RESOURCES, UNITS, register_all
from dms_mm.slimming.verify import outputs_of, relative_difference


def test_retrain_config_inherits_a_host_config_and_gets_its_class_back(tmp_path):
    register_all()
    import_scope('mmpretrain')
    init_default_scope('mmpretrain')
    base = "_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'\n"
    (tmp_path / 'search.py').write_text(
        base + "model = dict(_delete_=True, type='dms_mm.DMS', architecture=_base_.model, target=dict(macs=0.4),\n"
        '             input_shape=(3, 64, 64))\n'
    )
    (tmp_path / 'retrain.py').write_text(
        base + "model = dict(_delete_=True, type='dms_mm.SlimModel', architecture=_base_.model,\n"
        f"             structure='{tmp_path}/structure.json')\n"
    )
    config = Config.fromfile(tmp_path / 'search.py')
    assert config.train_dataloader.dataset.type == 'ImageNet', "the host's data and schedule are inherited"
    model = MODELS.build(config.model)
    structure = model.search.finalize()
    structure.save(tmp_path / 'structure.json')
    slim = MODELS.build(Config.fromfile(tmp_path / 'retrain.py').model)
    from mmpretrain.models import ImageClassifier, ResNet

    assert type(slim) is ImageClassifier and type(slim.backbone) is ResNet
    slim.init_weights()
    count = sum(p.numel() for p in slim.parameters())
    assert count == structure.resources['params'] < structure.supernet['params']
    losses = slim.train()(torch.randn(2, 3, 64, 64), _samples(2), mode='loss')
    losses['loss'].backward()


def _samples(count):
    from mmpretrain.structures import DataSample

    return [DataSample().set_gt_label(i) for i in range(count)]


def test_registries_are_children_of_mmengine():
    register_all()
    for registry, names in ((MODELS, ['DMS', 'SlimModel']), (HOOKS, ['DMSHook']), (DATASETS, ['SmallImages'])):
        assert registry.parent is not None
        for name in names:
            assert registry.parent.get(f'dms_mm.{name}') is not None
    assert UNITS.get('channel').kind == 'channel' and UNITS.get('depth').kind == 'depth'
    assert RESOURCES.get('macs') and RESOURCES.get('params')


def test_yolov8_traces_and_slims():
    """C2f splits by a stored size, which is mended; only the head's outputs stay."""
    mmyolo = import_mmyolo()
    import_scope('mmyolo')
    init_default_scope('mmyolo')
    path = os.path.join(os.path.dirname(mmyolo.__file__), '.mim/configs/yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py')
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS as ROOT_MODELS

    torch.manual_seed(0)
    model = revert_sync_batchnorm(ROOT_MODELS.build(Config.fromfile(path).model)).eval()
    plain = copy.deepcopy(model)
    x = torch.randn(2, 3, 128, 128)
    space = dms_mm.make_searchable(model, x)
    assert len(space.units) >= 50 and space.searchable_share() > 0.98
    assert not space.plan.trace.unknown
    assert {m.attribute for m in space.plan.mends} == {'mid_channels', 'in_channels', 'out_channels'}
    space.model.double()
    space.bank.double()
    for seed in range(2):
        harden_randomly(space, seed)
        slim = space.slim()
        assert relative_difference(outputs_of(space.model, x.double()), outputs_of(slim, x.double())) < 1e-8
        assert type(slim) is type(plain)
        assert space.resources()['params'] == sum(p.numel() for p in slim.parameters())
    assert outputs_of(slim, x.double())[0].shape == outputs_of(plain, x)[0].shape


@pytest.mark.parametrize('name', ['mmpretrain', None])
def test_importing_a_scope_twice_is_harmless(name):
    import_scope(name)
    import_scope(name)
