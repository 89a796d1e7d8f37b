"""The package loads lazily, every name of it resolves, and registries build what configs name."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch

import dms_mm
from builders.small import X, searchable
from dms_mm.mutables import ChannelUnit, DepthUnit, HeadUnit
from dms_mm.registry import MODELS, RESOURCES, RULES, SELECTORS, UNITS, build, find, register_all
from dms_mm.topk import TopkBank

BLOCKED = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in %r.split():
            raise ModuleNotFoundError(f'{name} is walled off')
sys.meta_path.insert(0, Wall())
"""


def python(code):
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, timeout=120)


def test_the_top_k_needs_torch_alone():
    walled = 'mmengine mmcv mmpretrain mmdet mmyolo timm transformers torchvision numpy scipy matplotlib'
    result = python(
        BLOCKED % walled + 'import torch\nfrom dms_mm.topk import TopkBank, differentiable_topk\n'
        'import dms_mm\n'
        'assert dms_mm.differentiable_topk is differentiable_topk\n'
        'mask = differentiable_topk(torch.arange(4.0), torch.tensor(0.5))\n'
        'assert (mask > 0.5).tolist() == [False, False, False, True]\n'
        'assert TopkBank([4], [4.0], [1]).mask.eq(1).all()\n'
        "assert 'mmengine' not in sys.modules and 'numpy' not in sys.modules\n"
        'try:\n    dms_mm.make_searchable\nexcept ImportError as error:\n    assert "walled off" in str(error)\n'
        'else:\n    raise AssertionError("the wall has a hole")\n'
    )
    assert result.returncode == 0, result.stderr


def test_importing_the_package_loads_nothing():
    result = python(
        'import sys, dms_mm\n'
        "loaded = {m.partition('.')[0] for m in sys.modules}\n"
        "assert not loaded & {'torch', 'mmengine', 'mmcv', 'timm', 'numpy', 'transformers'}, loaded\n"
        "assert [m for m in sys.modules if m.startswith('dms_mm')] == ['dms_mm']\n"
        'assert set(dms_mm.__all__) <= set(dir(dms_mm))\n'
    )
    assert result.returncode == 0, result.stderr


def test_every_public_name_resolves_and_no_other_does():
    for name in dms_mm.__all__:
        assert getattr(dms_mm, name).__name__ == name
    assert set(dms_mm._PLACES) == set(dms_mm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Serch'"):
        dms_mm.Serch  # noqa: B018


def test_what_searches_are_made_of_is_registered():
    register_all()
    for registry, names in (
        (UNITS, 'channel depth head head_dim ChannelUnit DepthUnit HeadUnit HeadDimUnit'),
        (RESOURCES, 'macs params Macs Params'),
        (RULES, 'balanced paper BalancedRule PaperRule'),
        (SELECTORS, 'topk TopkBank'),
    ):
        assert set(names.split()) <= set(registry.module_dict), registry.name
        for name in names.split():
            assert find(registry, name, 'part') is find(registry, f'dms_mm.{name}', 'part')


def test_a_plain_name_is_never_taken_for_a_module():
    for name in ('json', 'dms_mm.nope', 'no.such.thing', 3, None):
        with pytest.raises(ValueError, match='unknown rule'):
            find(RULES, name, 'rule')


@UNITS.register_module(force=True)
@dataclass(kw_only=True)
class TestUnit(ChannelUnit):
    __test__ = False
    sharpness: float = 2.0

    @property
    def temperature(self):
        return self.sharpness * self.size


@dataclass(kw_only=True)
class Stubborn(DepthUnit):
    reluctance: float

    @property
    def temperature(self):
        return self.reluctance


def test_units_of_ones_own_by_type_and_with_settings():
    space = searchable(
        units={
            'layer1.*.conv1': dict(type='TestUnit', sharpness=3.0, min_channels=5),
            'layer1.1.*': dict(sharpness=4.0),
            'layer1/depth': dict(type=Stubborn, reluctance=7.5, min_blocks=1),
            'layer2/depth': dict(ignore=True),
        }
    )
    a, b = space.units['layer1.0.conv1'], space.units['layer1.1.conv1']
    assert type(a) is type(b) is TestUnit and (a.sharpness, b.sharpness) == (3.0, 4.0)
    assert a.min_keep == b.min_keep == 5 and type(space.units['layer2.0.conv1']) is ChannelUnit
    depth = space.units['layer1/depth']
    assert type(depth) is Stubborn and depth.min_keep == 1 and 'layer2/depth' not in space.units
    assert space.bank.temperature[[a.index, depth.index]].tolist() == [3 * 48, 7.5]
    space.set_keep({a.name: 6, depth.name: 1})
    space.model.double().eval()
    space.to(torch.float64)
    torch.testing.assert_close(space.model(X.double()), space.slim()(X.double()), rtol=1e-8, atol=0)


@pytest.mark.parametrize(
    ('units', 'message'),
    [
        ({'layer1.0.conv1': dict(type='TestUnt')}, "unit 'layer1.0.conv1': 'TestUnt'; did you mean 'TestUnit'"),
        ({'layer1.0.conv1': dict(type='head')}, "unit 'layer1.0.conv1' is of kind 'channel'"),
        ({'layer1.0.conv1': dict(type=torch.nn.Linear)}, 'subclass of ChannelUnit'),
        ({'layer1.0.conv1': dict(type='TestUnit', sharpnes=1)}, "setting 'sharpnes' .*; did you mean 'sharpness'"),
        ({'layer1.0.conv1': dict(min_chanels=1)}, r"unknown setting 'min_chanels' .*; did you mean 'min_channels'"),
        ({'layer1.0.conv1': dict(step='two')}, "setting step='two' for unit 'layer1.0.conv1' must be a whole number"),
        ({'layer1.0.conv1': 3}, "entry of unit 'layer1.0.conv1' must be dict"),
        ({'layer1.0.conv': dict(step=2)}, "'layer1.0.conv' in `units` .*; did you mean 'layer1.0.conv1'"),
        ({'layer1/depth': dict(type=Stubborn)}, r"unit Stubborn: missing a required .*'reluctance'"),
        ({'layer1/depth': dict(min_channels=1)}, "unknown setting 'min_channels' for unit 'layer1/depth'"),
        ({'layer9/depth': dict(min_blocks=1)}, r"'layer9/depth' in `units` .*; did you mean 'layer\d/depth'"),
    ],
)  # fmt: skip
def test_wrong_units_are_one_clear_error(units, message):
    with pytest.raises(ValueError, match=message):
        searchable(units=units)


class Halved(TopkBank):
    def __init__(self, sizes, temperatures, min_keep, by=2.0):
        super().__init__(sizes, [t / by for t in temperatures], min_keep)


def test_selectors_are_built_and_copied_with_their_options():
    import copy

    space = searchable(selector=dict(type=Halved, by=4.0))
    assert type(space.bank) is Halved and space.bank.temperature[0] == space.bank.size[0] / 4
    twin = copy.deepcopy(space.bank)
    assert type(twin) is Halved and torch.equal(twin.temperature, space.bank.temperature)
    for wrong, message in (
        ('topp', r"unknown selector 'topp'; did you mean 'topk'\?"),
        (dict(type=Halved, bye=2), r"unknown option 'bye' of selector Halved; did you mean 'by'\?"),
        (dict(type=torch.nn.Identity), 'Identity is no subclass of TopkBank'),
    ):
        with pytest.raises(ValueError, match=message):
            searchable(selector=wrong)


CONFIG = dict(
    type='DMS',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.ResNet', depth=18),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=512),
    ),
    input_shape=(3, 32, 32),
    target=dict(macs=0.5),
)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(serch=dict()), r"unknown option 'serch' of DMS; did you mean 'search'\?"),
        (dict(search=dict(travl=1.0)), r"unknown option 'travl' of rule BalancedRule; did you mean 'travel'\?"),
        (dict(search=dict(rule='papr')), r"unknown rule 'papr'; did you mean 'paper'\?"),
        (dict(search='balanced'), '`search` must be dict'),
        (dict(space=dict(igore=['head'])), r"unknown option 'igore' of `space`; did you mean 'ignore'\?"),
        (dict(space=['head']), '`space` must be dict'),
        (dict(target=dict(parms=0.5)), r"unknown resource 'parms'; did you mean 'params'\?"),
        (dict(target=0.5), 'the target must name resources'),
        (dict(target=dict(macs=3)), 'taken as a share, above the supernet'),
        (dict(distillation=dict(teecher=1)), r"unknown option 'teecher' of `distillation`; did you mean 'teacher'\?"),
        (dict(space=dict(ignore=['head.fcc'])), r"'head.fcc' in `ignore` .*; did you mean 'head.fc'\?"),
        (dict(pipeline='npp'), r"unknown pipeline 'npp'; did you mean 'np'\?"),
    ],
)
def test_wrong_configs_name_the_nearest_valid_option(change, message):
    register_all()
    with pytest.raises(ValueError, match=message):
        MODELS.build({**CONFIG, **change})


def test_a_config_builds_its_parts_and_keeps_their_state_under_one_prefix():
    register_all()
    model = MODELS.build(
        {
            **CONFIG,
            'space': dict(resources=dict(weights=dict(type='params', _scope_='mmpretrain')), _scope_='mmpretrain'),
            'target': dict(weights=0.5, _scope_='mmpretrain'),
            'search': dict(rule=dict(type='BalancedRule', travel=2.0, _scope_='mmpretrain'), warmup=0.2),
        }
    )
    assert model.search.targets == {'weights': 0.5 * model.space.supernet['params']}
    assert model.search.rule.travel == 2.0 and model.search.warmup == 0.2
    own = {k for k in model.state_dict() if not k.startswith('architecture.')}
    names = 'ratio importance steps warm keep hardened held velocity confidence_held seen_steps'
    names += ' seen_mean seen_variance seen_weights'
    assert own == {f'structure.{n}' for n in names.split()}
    assert set(dict(model.counters.named_children())) == {'macs', 'params', 'weights'}


def test_a_config_gives_budgets_to_parts():
    register_all()
    model = MODELS.build({**CONFIG, 'parts': dict(backbone=dict(params='80%')), 'target': {}})
    assert model.search.targets == {'backbone/params': 0.8 * model.space.supernet['backbone/params']}
    nested = MODELS.build(
        {**CONFIG, 'target': dict(backbone={'layer1/macs': 0.5}), 'search': dict(parts=dict(head=dict(macs=1.0)))}
    )
    assert set(nested.search.targets) == {'backbone.layer1/macs', 'head/macs'}
    assert 'backbone:layer1/macs' in nested.counters


def test_build_takes_names_classes_and_dicts():
    class Part:
        def __init__(self, place, size=1):
            self.place, self.size = place, size

    assert build(RULES, Part, 'here', what='part').size == 1
    made = build(RULES, dict(type=Part, size=3), 'here', what='part')
    assert (made.place, made.size) == ('here', 3)
    with pytest.raises(ValueError, match="unknown option 'place' of part Part"):
        build(RULES, dict(type=Part, place='there'), 'here', what='part')
    assert issubclass(HeadUnit, ChannelUnit)
