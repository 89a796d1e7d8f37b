"""A structure file that was changed by hand goes through ``dms slim --edited`` alone."""

import json

import pytest
from mmengine.config import Config

from builders.processes import ROOT
from dms_mm import StructureError
from dms_mm.cli.slim import main as slim
from dms_mm.cli.uniform import main as uniform
from dms_mm.models import SlimModel

CONFIG = 'configs/demo/search.py'


def test_an_edited_file_is_tried_and_written_anew(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    path, edited = tmp_path / 'uniform.json', tmp_path / 'edited.json'
    assert uniform([CONFIG, str(path)]) == 0
    content = json.loads(path.read_text())

    def run(*options):
        edited.write_text(json.dumps(content))
        capfd.readouterr()
        status = slim([CONFIG, str(edited), '--out', str(tmp_path / 'slim'), *options])
        return status, capfd.readouterr().err.strip()

    content['units']['note'] = {'kind': 'channel', 'size': 1, 'keep': '0'}
    status, error = run()
    assert status == 2 and 'was changed after it was written' in error and '--edited' in error
    # One channel of one norm, in all that belongs to it, and counted right; what it normalises has more.
    name = 'backbone.timm_model.layer1.0.bn1'
    own = [content['slices'][f'{name}.{key}'] for key in ('weight', 'bias', 'running_mean', 'running_var')]
    kept, count = own[0]['0'], content['resources']['params']
    for dims in own:
        dims['0'] = '0'
    status, error = run('--edited')
    assert status == 2 and f"resources['params']: {count} parameters" in error
    content['resources']['params'] = int(error.split('structure makes ')[1].split('.')[0])
    status, error = run('--edited')
    assert status == 2 and 'does not run in eval mode' in error and name in error
    assert not (tmp_path / 'slim').exists()
    for dims in own:
        dims['0'] = kept
    content['resources']['params'] = count
    status, error = run('--edited')
    assert status == 0, error
    config = Config.fromfile(tmp_path / 'slim/config.py')
    architecture = config.model.architecture
    with pytest.raises(StructureError, match='was changed'):
        SlimModel(architecture, edited)
    with pytest.raises(StructureError, match='has to be tried'):
        SlimModel(architecture, edited, edited=True)
    tried = SlimModel(architecture, edited, edited=True, input_shape=(1, 28, 28))
    written = SlimModel(architecture, config.model.structure)
    assert [p.shape for p in tried.parameters()] == [p.shape for p in written.parameters()]
