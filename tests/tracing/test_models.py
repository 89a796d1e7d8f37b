"""A model of one's own, the report, the check that names a culprit, and a sample of the zoo."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import dms_mm
from dms_mm.cli.inspect import main as inspect
from dms_mm.mutators.blocks import register_block
from dms_mm.reasons import REMEDIES, remedy_of
from dms_mm.registry import BLOCKS
from dms_mm.slimming.verify import verify_equivalence

ROOT = Path(__file__).parents[2]
# By its path: the tests have a `zoo` of their own.
SPEC = importlib.util.spec_from_file_location('zoo_benchmark', ROOT / 'benchmarks' / 'zoo.py')
bench = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench)


class Mixer(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        return (x + self.branch(x)).abs()


def mixers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), Mixer(8), Mixer(8), nn.Linear(8, 3)).eval()


def test_a_block_of_ones_own_by_a_config_entry():
    model = mixers()
    assert not any(u.kind == 'depth' for u in dms_mm.make_searchable(mixers(), torch.randn(2, 5)).units.values())
    space = dms_mm.make_searchable(model, torch.randn(2, 5), blocks={'Mixer': 'branch'}, verify=True)
    (depth,) = (u for u in space.units.values() if u.kind == 'depth')
    assert depth.blocks == ['2', '3'] and [list(c) for c in depth.carriers] == [['branch.2']] * 2
    space.set_keep({depth.name: torch.tensor([True, False])})
    assert isinstance(space.slim()[3], nn.Identity)


def test_a_block_of_ones_own_by_an_adapter():
    name = f'{Mixer.__module__}.Mixer'
    register_block(name)(lambda block: 'branch')
    try:
        space = dms_mm.make_searchable(mixers(), torch.randn(2, 5), verify=True)
        assert any(u.kind == 'depth' for u in space.units.values())
    finally:
        BLOCKS.module_dict.pop(name)


class Stored(nn.Module):
    """A size that no attribute holds."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        x = self.second(self.first(x).relu())
        return self.last(x.view(-1, 6))


def test_a_size_in_the_forward_is_frozen_and_reported():
    space = dms_mm.make_searchable(Stored(), torch.randn(3, 4), verify=True)
    assert list(space.units) == ['first']
    report = space.report()
    assert 'the slim forward fails' in report and 'store it as an attribute' in report


def test_every_reason_has_a_remedy():
    space = dms_mm.make_searchable(mixers(), torch.randn(2, 5))
    for reason in space.blockers():
        assert remedy_of(reason) in {text for _, text in REMEDIES}


def test_self_check_names_the_unit_at_fault():
    """A mask that does not reach one of its consumers must be found out."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    space = dms_mm.make_searchable(model, torch.randn(2, 4))
    model[4].__dict__['_dms_folds'].clear()
    with pytest.raises(RuntimeError, match='supernet by .*: 2. Put it into'):
        verify_equivalence(space, torch.randn(2, 4))


def test_inspect_prints_units_share_and_reasons(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert inspect(['timm/vit_tiny_patch16_224', '--input-shape', '3', '224', '224']) == 0
    out = capsys.readouterr().out
    for text in (
        'searchable share of the MACs: 100.0%',
        'searchable share of the parameters: 100.0%',
        'head_dim blocks.0.attn.qkv',
        'depth',
        'outputs keep their size',
    ):
        assert text in out
    # The script as it is called, on a config.
    script = [sys.executable, 'tools/inspect_model.py', 'configs/demo/search.py']
    result = subprocess.run(script, capture_output=True, text=True)
    assert result.returncode == 0 and 'searchable share of the MACs' in result.stdout, result.stderr
    capsys.readouterr()
    assert inspect(['no/such']) == 2 and len(capsys.readouterr().err.strip().splitlines()) == 1


SAMPLE = [
    'timm/gcvit_xxtiny:224', 'timm/mixer_s16_224:224', 'timm/mobilevit_xxs:256', 'timm/resnest14d:224',
    'timm/poolformerv2_s12:224', 'timm/test_nfnet:160', 'timm/regnety_040_sgn:224', 'timm/convnext_zepto_rms:224',
    'torchvision/regnet_y_400mf', 'segmentation/lraspp_mobilenet_v3_large',
    'mmpretrain/deit-tiny_4xb256_in1k', 'mmpretrain/swin-tiny_16xb64_in1k', 'mmdet/rtmdet-tiny', 'mmdet/retinanet',
]  # fmt: skip
# Every kind of block at least twice in a stage: what more of the same adds is time. The zoo has them whole.
SHALLOW = {
    'timm/beit_base_patch16_224:224': dict(depth=2),
    'timm/cait_xxs24_224:224': dict(depth=2),
    'timm/crossvit_tiny_240:240': dict(depth=([1, 2, 0], [1, 2, 0])),
    'timm/coat_tiny:224': dict(serial_depths=[2, 1, 1, 1], parallel_depth=2),
    'timm/efficientformerv2_s0:224': dict(depths=(1, 1, 2, 3)),
    'timm/levit_384_s8:224': dict(depth=(2, 2, 2)),
    'timm/maxvit_pico_rw_256:256': dict(depths=(1, 1, 2, 1)),
    'timm/pvt_v2_b0:224': dict(depths=(2, 1, 1, 1)),
    'timm/twins_svt_small:224': dict(depths=[2, 2, 2, 2]),
    'timm/xcit_nano_12_p8_224:224': dict(depth=3),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', [*SAMPLE, *SHALLOW])
def test_a_sample_of_the_zoo(name):
    model, inputs, forward = bench.build(name, **SHALLOW.get(name, {}))
    space = dms_mm.make_searchable(model, inputs, forward_fn=forward)
    if space.proof.unproved:
        verify_equivalence(space, inputs, forward)
    assert space.searchable_share() > 0.75
