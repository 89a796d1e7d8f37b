"""Search space -> file -> build_slim in a fresh process -> strict load -> same outputs; ONNX Runtime too."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import dms_mm
from builders.structures import harden_randomly
from builders.zoo import ZOO, build, example
from dms_mm.slimming.ranges import from_ranges, to_ranges

FRESH = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from builders.zoo import build, example
from dms_mm import build_slim
from dms_mm.slimming.verify import outputs_of, relative_difference
for name in sys.argv[3:]:
    folder = Path(sys.argv[2]) / name.replace('/', '_')
    # Other weights (seed 1): everything must come from the file.
    slim = build_slim(build(name, seed=1), folder / 'structure.json')
    slim.load_state_dict(torch.load(folder / 'slim.pth', weights_only=True), strict=True)
    expected = torch.load(folder / 'outputs.pt', weights_only=True)
    difference = relative_difference(outputs_of(slim.eval(), example()), expected)
    assert difference < 1e-5, (name, difference)
    meta = build_slim(build(name).to('meta'), folder / 'structure.json')
    assert {k: v.shape for k, v in meta.state_dict().items()} == {k: v.shape for k, v in slim.state_dict().items()}
    print('same', name)
"""


@pytest.fixture(scope='module')
def slim_models(tmp_path_factory):
    folder = tmp_path_factory.mktemp('zoo')
    for name in ZOO:
        space = dms_mm.make_searchable(build(name), example())
        harden_randomly(space, 11)
        out = folder / name.replace('/', '_')
        out.mkdir()
        space.structure().save(out / 'structure.json')
        slim = space.slim().eval()
        torch.save(slim.state_dict(), out / 'slim.pth')
        torch.save(dms_mm.slimming.verify.outputs_of(slim, example()), out / 'outputs.pt')
    return folder


@pytest.mark.slow
def test_fresh_process_gives_the_same_outputs(slim_models):
    result = subprocess.run(
        [sys.executable, '-c', FRESH, str(Path(__file__).parents[1]), str(slim_models), *ZOO],
        capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count('same') == len(ZOO)


@pytest.mark.slow
@pytest.mark.parametrize('name', list(ZOO))
def test_onnx_runtime_gives_the_same_outputs(slim_models, name, tmp_path):
    from dms_mm.cli.slim import export_onnx

    folder = slim_models / name.replace('/', '_')
    slim = dms_mm.build_slim(build(name), folder / 'structure.json')
    slim.load_state_dict(torch.load(folder / 'slim.pth', weights_only=True))
    assert export_onnx(slim, example(), str(tmp_path / 'model.onnx')) < 1e-3


def test_ranges_are_inverse():
    rng = np.random.default_rng(0)
    for _ in range(50):
        positions = np.flatnonzero(rng.random(rng.integers(1, 60)) < rng.random())
        assert (from_ranges(to_ranges(positions), 60) == positions).all()
    assert to_ranges(np.array([0, 1, 2, 7])) == '0-2,7'


def test_bad_structure_files_are_named(tmp_path):
    space = dms_mm.make_searchable(build('torchvision/resnet18'), example())
    harden_randomly(space, 0)
    path = tmp_path / 's.json'
    space.structure().save(path)
    assert dms_mm.Structure.load(path) == space.structure()
    with pytest.raises(dms_mm.StructureError, match='another architecture'):
        dms_mm.build_slim(build('torchvision/mobilenet_v2'), path)
    content = json.loads(path.read_text())
    for change, message in (
        (path.read_text()[:200], 'damaged'),
        ('{}', 'is not a dms_mm structure file'),
        (json.dumps(content | {'version': 99}), 'has version 99'),
        (json.dumps(content | {'extra': 1}), "unknown field 'extra'"),
        (b'\xff\xfe\x00'.decode('latin1'), 'damaged'),
    ):
        (tmp_path / 'bad.json').write_text(change)
        with pytest.raises(dms_mm.StructureError, match=message):
            dms_mm.Structure.load(tmp_path / 'bad.json')
    with pytest.raises(dms_mm.StructureError, match='cannot be read'):
        dms_mm.Structure.load(tmp_path / 'missing.json')
    import torchvision

    with pytest.raises(dms_mm.StructureError, match=r"parameter 'conv1.weight'|shape|parameters"):
        dms_mm.build_slim(torchvision.models.resnet18(num_classes=7).layer1, path)
