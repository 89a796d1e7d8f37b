"""What is named in model-index.yml and found by ``dms_mm::``, from a checkout and from an installed wheel."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.hub import get_config

from dms_mm.registry import plain

ROOT = Path(__file__).parents[1]
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())
METAFILES = {path.split('/')[1]: yaml.safe_load((ROOT / path).read_text()) for path in INDEX['Import']}
MODELS = {model['Name']: model for metafile in METAFILES.values() for model in metafile['Models']}


def leaves():
    """Every config that can be run: all but the parts in ``_base_``."""
    return {str(p.relative_to(ROOT)) for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts}


# -- metafiles
def test_every_config_is_named_once_and_exists():
    assert sorted(INDEX['Import']) == sorted(
        str(p.relative_to(ROOT)) for p in (ROOT / 'configs').glob('*/metafile.yml')
    )
    named = [model['Config'] for metafile in METAFILES.values() for model in metafile['Models']]
    assert sorted(named) == sorted(leaves())
    assert len(MODELS) == len(named), 'two models of one name'
    for family, metafile in METAFILES.items():
        collections = {c['Name']: c for c in metafile['Collections']}
        assert all((ROOT / c['README']).is_file() for c in collections.values() if 'README' in c)
        for model in metafile['Models']:
            assert model['In Collection'] in collections and model['Config'].startswith(f'configs/{family}/')
            assert 'Weights' not in model
            assert all('the paper' in r['Source'] and 'not run here' in r['Source'] for r in model.get('Results', []))


def reported(family):
    """Rows of the README's tables of the paper's numbers, by column."""
    text = (ROOT / 'configs' / family / 'README.md').read_text()
    rows = []
    for block in re.findall(r'(?:^\|.*\|\n)+', text, re.M):
        table = [[c.strip() for c in line.strip('|').split('|')] for line in block.splitlines()]
        rows += [dict(zip(table[0], line)) for line in table[2:] if "the paper's" in block.splitlines()[0]]
    return rows


@pytest.mark.parametrize('family', ['efficientnet', 'deit', 'resnet', 'mobilenetv2', 'yolov8'])
def test_metafiles_agree_with_the_readmes(family):
    given = {}
    for row in reported(family):
        names = re.findall(r'`([^`]+)`', row['config'])
        cost = round(float(row['GMACs']) * 1e9), round(float(row['params M'] or 0) * 1e6)
        given[names[-1]] = float(row.get("top-1, the paper's") or row["mAP, the paper's"]), *cost
        if row.get("with a teacher, the paper's"):
            given[names[-1].replace('retrain_', 'retrain_distill_')] = float(row["with a teacher, the paper's"]), *cost
        for name in names:
            assert MODELS[name]['Metadata']['FLOPs'] == cost[0]
        if row.get('search GPU days'):
            assert MODELS[names[0]]['Metadata']['Search GPU Days'] == float(row['search GPU days'])
    found = {}
    for model in METAFILES[family]['Models']:
        for result in model.get('Results', []):
            (value,) = result['Metrics'].values()
            found[model['Name']] = value, model['Metadata']['FLOPs'], model['Metadata'].get('Parameters', 0)
    assert found == given and found


def test_configs_that_are_mentioned_exist():
    places = [ROOT / 'README.md', *(ROOT / 'configs').glob('*/README.md')]
    places += [p for folder in ('docs', 'tools', 'benchmarks', 'dms_mm') for p in (ROOT / folder).rglob('*.[pm][yd]')]
    mentioned = {c for p in places for c in re.findall(r'(?<![\w/.])configs/[\w./-]+\.py', p.read_text())}
    assert len(mentioned) >= 20 and [c for c in mentioned if not (ROOT / c).is_file()] == []


# -- inheritance
def test_a_checkout_is_inherited_from_by_package_name(tmp_path):
    for name in ('efficientnet/search_np_en-b0.py', 'deit/timm/finetune_timm-deit-t.py', 'demo/search.py'):
        (tmp_path / 'child.py').write_text(f"_base_ = 'dms_mm::{name}'\nmodel = dict(extra=1)\n")
        child = Config.fromfile(tmp_path / 'child.py')
        there = Config.fromfile(ROOT / 'configs' / name)
        assert plain(get_config(f'dms_mm::{name}').to_dict()) == plain(there.to_dict())
        there.model.extra = 1
        assert plain(child.to_dict()) == plain(there.to_dict())


def test_examples_of_the_docs_are_configs(tmp_path):
    text = ''.join((ROOT / f'docs/{name}.md').read_text() for name in ('quickstart', 'classification'))
    examples = [block for block in re.findall(r'```python\n(_base_ =.*?)```', text, re.S) if 'dms_mm::' in block]
    assert len(examples) == 2
    for block in examples:
        (tmp_path / 'example.py').write_text(block)
        config = Config.fromfile(tmp_path / 'example.py')
        assert config.model.target.macs == 0.3e9 and config.model.architecture.head.in_channels == 1792


@pytest.mark.slow
def test_hosts_find_their_own_parts_below_an_inherited_config(tmp_path):
    """A runner that knows nothing of this toolbox's tools builds what it inherits, in the scope ``dms_mm``."""
    pytest.importorskip('mmpretrain')
    from mmengine.registry import init_default_scope

    from dms_mm.models.hosts import import_scope
    from dms_mm.registry import MODELS as REGISTRY

    import_scope('mmpretrain')
    for name, kind in (('demo/search.py', 'ImageClassifier'), ('mobilenetv2/search_np_mbv2.py', 'ImageClassifier')):
        (tmp_path / 'child.py').write_text(f"_base_ = 'dms_mm::{name}'\n")
        config = Config.fromfile(tmp_path / 'child.py')
        assert config.model._scope_ == 'dms_mm'
        init_default_scope('mmpretrain')
        model = REGISTRY.build({**config.model, 'data_preprocessor': config.data_preprocessor})
        assert type(model.architecture).__name__ == kind


# -- the wheel
def python(venv, *args, cwd):
    environment = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV')}
    result = subprocess.run(
        [str(venv / 'bin' / args[0]), *map(str, args[1:])], cwd=cwd, capture_output=True, text=True, timeout=600,
        env={**environment, 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution, built from a copy of the checkout."""
    source, out = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('wheel')
    for name in ('dms_mm', 'configs', 'tools', 'requirements'):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'model-index.yml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    build = f'from setuptools import build_meta; build_meta.build_sdist({str(out)!r})'
    subprocess.run([sys.executable, '-c', build], cwd=source, check=True, capture_output=True)
    (archive,) = out.glob('*.tar.gz')
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', out, archive],
        cwd=out, check=True, capture_output=True,
    )  # fmt: skip
    (built,) = out.glob('*.whl')
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_module_config_and_tool(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {str(p.relative_to(ROOT)) for p in (ROOT / 'dms_mm').rglob('*.py') if '.mim' not in p.parts}
    beside = [p for folder in ('configs', 'tools') for p in (ROOT / folder).rglob('*') if p.is_file()]
    mim = {f'dms_mm/.mim/{p.relative_to(ROOT)}' for p in beside if '__pycache__' not in p.parts}
    inside = {n for n in names if not n.startswith('dms_mm-')}
    assert inside == code | mim | {'dms_mm/.mim/model-index.yml'}


@pytest.mark.slow
def test_an_installed_wheel_searches_by_an_inherited_config(wheel, tmp_path):
    pytest.importorskip('mmpretrain')
    venv, here = tmp_path / 'venv', tmp_path / 'elsewhere'
    here.mkdir()
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', venv], check=True)
    (site,) = venv.glob('lib/python*/site-packages')
    # Everything but dms_mm comes from the environment that runs the tests.
    (site / 'beside.pth').write_text(sysconfig.get_path('purelib') + '\n')
    python(
        venv, 'python', '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--ignore-installed', wheel, cwd=here
    )
    place = 'import dms_mm; print(dms_mm.__file__)'
    assert python(venv, 'python', '-c', place, cwd=here).split()[-1] == str(site / 'dms_mm/__init__.py')
    (here / 'mine.py').write_text(
        "_base_ = 'dms_mm::demo/search.py'\n"
        'model = dict(target=dict(macs=0.3), architecture=dict(backbone=dict(stem_width=16)))\n'
        'train_dataloader, val_dataloader = _base_.train_dataloader, _base_.val_dataloader\n'
        "train_dataloader.dataset.name = val_dataloader.dataset.name = 'digits'\n"
        'test_dataloader = val_dataloader\n'
        'train_cfg = dict(max_iters=8, val_interval=8)\n'
        'default_hooks = dict(logger=dict(interval=2))\n'
    )
    log = python(venv, 'dms', 'train', 'mine.py', '--work-dir', 'found', cwd=here)
    assert 'Failed to search registry' not in log and 'accuracy/top1' in log
    structure = json.loads((here / 'found/structure.json').read_text())
    assert 0.99 * 0.3 <= structure['resources']['macs'] / structure['supernet']['macs'] <= 0.3
    # Without a file of one's own, and by the tools that mim starts.
    python(venv, 'dms', 'uniform', 'dms_mm::demo/search.py', 'uniform.json', cwd=here)
    assert json.loads((here / 'uniform.json').read_text())['resources']['macs'] > 0
    assert 'retrain' in python(venv, 'python', site / 'dms_mm/.mim/tools/train.py', '--help', cwd=here)
