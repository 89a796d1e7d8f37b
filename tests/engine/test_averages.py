"""Averages of the weights beside a search: they show the structure that is searched, and don't touch it."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import Runner
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

pytest.importorskip('mmpretrain')
from dms_mm.algorithms.dms import DMS
from dms_mm.models.hosts import import_scope
from dms_mm.registry import register_all

register_all()
import_scope('mmpretrain')
from mmpretrain.structures import DataSample  # noqa: E402

INIT = [dict(type='Constant', layer='Conv2d', val=0.25), dict(type='Constant', layer='Linear', val=0.5)]
CONFIG = dict(
    type='dms_mm.DMS',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8, init_cfg=INIT),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=4, in_channels=64, init_cfg=INIT),
        data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3),
    ),
    input_shape=(3, 32, 32),
    target=dict(macs=0.5),
    search=dict(warmup=0.0),
)
X = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def searched():
    torch.manual_seed(0)
    return DMS(**{k: v for k, v in copy.deepcopy(CONFIG).items() if k != 'type'})


def test_initial_weights_are_the_stored_ones():
    model = searched()
    model.init_weights()
    for name, p in model.architecture.named_parameters():
        if name.endswith('weight') and p.ndim > 1:
            torch.testing.assert_close(p, torch.full_like(p, 0.25 if p.ndim == 4 else 0.5), msg=name)


@pytest.mark.parametrize('average', [AveragedModel, lambda m: ExponentialMovingAverage(m, update_buffers=True)])
def test_an_average_shows_the_present_structure(average):
    model = searched().eval()
    averaged = average(model)
    with torch.no_grad():
        for p in model.architecture.parameters():
            p.mul_(1.1)
        before = averaged.module(X)
        assert not torch.allclose(before, model(X))
        bank = model.structure
        bank.importance.copy_(torch.rand(len(bank.importance)))
        bank.ratio.fill_(0.3)
        bank.refresh()
        assert not torch.allclose(averaged.module(X), before)
        state = {k: v.clone() for k, v in bank.state_dict().items()}
        averaged.update_parameters(model)
        torch.testing.assert_close(averaged.module(X), model(X))
        torch.testing.assert_close(dict(bank.state_dict()), state, rtol=0, atol=0)
    assert averaged.module.space.bank is bank and averaged.module.space.model is averaged.module.architecture
    torch.testing.assert_close(averaged.module.space.slim().eval()(X), space_hard(averaged.module)(X))


def space_hard(model):
    space = copy.deepcopy(model.space)
    keep = space.bank.hard_keep()
    space.set_keep({u.name: keep[u.start : u.start + u.size] for u in space.units.values()})
    return space.model.eval()


class Images(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return dict(inputs=X[i % 4] * 20, data_samples=DataSample().set_gt_label(i % 4))


def test_a_search_with_an_average_goes_as_without(tmp_path):
    ratios, averages = {}, {}
    for name, hooks in (('without', []), ('with', [dict(type='EMAHook', momentum=0.5, update_buffers=True)])):
        runner = Runner(
            model=copy.deepcopy(CONFIG),
            work_dir=str(tmp_path / name),
            train_dataloader=dict(batch_size=4, dataset=Images(), sampler=dict(type='DefaultSampler', shuffle=False)),
            train_cfg=dict(by_epoch=True, max_epochs=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            custom_hooks=[dict(type='dms_mm.DMSHook'), *hooks],
            default_scope='mmpretrain',
            randomness=dict(seed=0),
        )
        model = runner.train()
        ratios[name] = model.structure.ratio.detach().clone()
        averages[name] = [h for h in runner.hooks if type(h).__name__ == 'EMAHook']
    assert ratios['with'].max() > 0
    torch.testing.assert_close(ratios['with'], ratios['without'], rtol=0, atol=0)
    copied = averages['with'][0].ema_model.module
    assert copied.structure is model.structure and copied.architecture is not model.architecture
