"""The command ``dms``: what its commands are for, models by name, and imports that say nothing of what nobody asked."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import dms_mm
from dms_mm.cli.architecture import LIBRARIES
from dms_mm.cli.inspect import main
from dms_mm.cli.main import COMMANDS
from dms_mm.cli.main import main as dms

ROOT = Path(__file__).parents[2]


def call(monkeypatch, capsys, *args):
    monkeypatch.setattr(sys, 'argv', ['dms', *args])
    return dms(), *capsys.readouterr()


@pytest.mark.parametrize(('args', 'status'), [((), 2), (('--help',), 0)])
def test_without_a_command_it_tells_what_each_is_for(args, status, monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, *args)
    assert code == status
    for name, purpose in COMMANDS.items():
        assert any(line.split() == [name, *purpose.split()] for line in out.splitlines())


def test_version_and_unknown_commands(monkeypatch, capsys):
    assert call(monkeypatch, capsys, '--version') == (0, f'dms_mm {dms_mm.__version__}\n', '')
    code, _, err = call(monkeypatch, capsys, 'serach')
    assert code == 2 and "no command 'serach'" in err and 'inspect' in err and len(err.splitlines()) == 1


@pytest.mark.parametrize('name', list(COMMANDS))
def test_help_of_a_command_begins_with_what_it_is_for(name, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, capsys, name, '--help')
    out = capsys.readouterr().out
    first = importlib.import_module(f'dms_mm.cli.{name}').HELP.splitlines()[0]
    assert end.value.code == 0 and first in out and out.startswith('usage: ')


@pytest.mark.parametrize(
    ('name', 'messages'),
    [
        ('timm/resnt18', ["timm has no model 'resnt18'", 'near names: resnet18,']),
        ('timm/resnet18.nosuch', ["no model 'resnet18.nosuch'", 'near names: resnet18']),
        ('timm/zzzzzz', ["no model 'zzzzzz'", 'timm.list_models() gives its names']),
        ('torchvision/swin', ["torchvision has no model 'swin'", 'swin_t']),
        ('mmpretrain/resnet50', ["mmpretrain has no model 'resnet50'", 'resnet50_8xb32_in1k']),
    ],
)
def test_a_name_that_a_library_has_not_ends_in_one_line_with_near_ones(name, messages, capsys):
    assert main([name]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and all(m in err for m in messages)


def test_inspect_tells_what_targets_mean_before_any_training(capsys):
    given = ['torchvision/resnet18', '--input-shape', '3', '32', '32', '--verify', 'shapes']
    assert main([*given, '--target', 'macs=40%', 'layer4.1/params=0.3']) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    begin = rows.index('resource smallest full target uniform of the target'.split())
    assert [row[0] for row in rows[begin + 1 : begin + 4]] == ['macs', 'params', 'layer4.1/params']
    assert rows[begin + 4][-1] == 'binds'
    for wrong, message in (('macs=16MB', 'none of this resource'), ('layr4/macs=0.5', "did you mean 'layer4'")):
        assert main([*given, '--target', wrong]) == 2
        err = capsys.readouterr().err
        assert message in err and err.splitlines()[-1].startswith('error: ')


@pytest.mark.parametrize('library', list(LIBRARIES))
def test_a_missing_library_says_how_to_install_it(library, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == library else find(name))
    assert main([f'{library}/anything']) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and f'{library} is not installed' in err and 'install' in err


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet'])
def test_importing_a_library_is_quiet_beside_any_transformers(scope):
    """Without mmcv's compiled ops, as in the demo's environment, and with what else the library has to say."""
    code = (
        'import sys\n'
        f"if {scope == 'mmpretrain'}: sys.modules['mmcv.ops'] = None\n"
        'from dms_mm.models.hosts import import_scope\n'
        f'import_scope({scope!r})\n'
        'from mmengine.logging import print_log\n'
        "print_log('and this is heard')\n"
        f'from {scope}.models import ResNet\n'
        'print(ResNet.__name__)\n'
    )
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == ['and this is heard', 'ResNet']
    assert 'OneDL' not in result.stdout + result.stderr
    assert 'MultiScaleDeformableAttention' not in result.stderr


def test_multimodal_models_of_mmpretrain_say_what_they_need(monkeypatch):
    """Those are what transformers 5 keeps from being imported; all others of mmpretrain must not suffer."""
    from dms_mm import compat
    from dms_mm.models import hosts

    if compat._major('transformers') < 5:
        pytest.skip('mmpretrain runs them with transformers 4')
    hosts.import_scope('mmpretrain')
    from mmpretrain.registry import MODELS

    with pytest.raises(ImportError, match='multi-modal dependencies'):
        MODELS.get('BlipCaption')()
    assert MODELS.get('ImageClassifier')


def test_a_config_is_formatted_once_for_log_dump_and_checkpoints(monkeypatch):
    from mmengine.config import Config
    from yapf.yapflib import yapf_api

    from dms_mm.compat import format_configs_once

    format_code, calls = yapf_api.FormatCode, []

    def counted(text, **options):
        calls.append(text)
        return format_code(text, **options)

    monkeypatch.setattr(yapf_api, 'FormatCode', counted)
    config = Config(dict(model=dict(type='A', width=1), lr=0.1))
    plain = config.pretty_text
    format_configs_once()
    format_configs_once()
    assert [config.pretty_text for _ in range(3)] == [plain] * 3 and len(calls) == 2
    config.model.width = 2
    assert 'width=2' in config.pretty_text and config.pretty_text != plain and len(calls) == 3
