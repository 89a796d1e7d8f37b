"""The shell scripts that start several processes: torchrun on this machine, and slurm behind a stand-in for srun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builders.processes import ROOT, free_port
from dms_mm import Structure
from dms_mm.cli.test import test as evaluate

pytestmark = pytest.mark.slow
DATA = [f'{split}_dataloader.dataset.name=digits' for split in ('train', 'val', 'test')]
SEARCH = [*DATA, 'train_cfg.max_iters=40', 'param_scheduler.0.end=4', 'train_dataloader.batch_size=32']
# What srun does with a task, on one machine: the command once a rank, told its rank by the environment.
SRUN = """#!{python}
import os, subprocess, sys

given = [a for a in sys.argv[1:] if a.startswith('--')]
tasks = int(next(a for a in given if a.startswith('--ntasks=')).partition('=')[2])
command = sys.argv[next(i for i, a in enumerate(sys.argv) if a == {python!r}):]
print('srun', *sys.argv[1:sys.argv.index(command[0])], flush=True)
ranks = [
    subprocess.Popen(command, env={{**os.environ, 'SLURM_PROCID': str(i), 'SLURM_LOCALID': str(i),
                                    'SLURM_NTASKS': str(tasks), 'SLURM_NODELIST': 'localhost'}})
    for i in range(tasks)
]
sys.exit(max(rank.wait() for rank in ranks))
"""


def start(script, *args, **env):
    result = subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *map(str, args)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', **env},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


@pytest.fixture
def slurm(tmp_path):
    """The environment of a cluster of one machine with two processes a job."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    (folder / 'srun').write_text(SRUN.format(python=sys.executable))
    (folder / 'srun').chmod(0o755)
    path = f'{folder}:{os.environ["PATH"]}'
    return dict(PATH=path, GPUS='2', GPUS_PER_NODE='2', MASTER_PORT=str(free_port()), SRUN_ARGS='--exclusive')


def searched(folder: Path):
    structure = Structure.load(folder / 'structure.json')
    assert 0.0198 <= structure.resources['macs'] / structure.supernet['macs'] <= 0.02
    return folder / 'iter_40.pth'


def test_search_and_test_in_two_processes(tmp_path, slurm):
    dist = dict(PORT=str(free_port()))
    options = ['--cfg-options', *SEARCH]
    search = 'configs/demo/search.py'
    start('dist_train.sh', search, 2, '--work-dir', tmp_path / 'dist', *options, **dist)
    log = start('slurm_train.sh', 'gpu', 'job', search, '--work-dir', tmp_path / 'slurm', *options, **slurm)
    assert 'srun -p gpu --job-name=job --gres=gpu:2 --ntasks=2 --ntasks-per-node=2' in log and '--exclusive' in log
    checkpoint = searched(tmp_path / 'dist')
    # The launcher makes no difference to what the ranks compute.
    assert (tmp_path / 'dist/structure.json').read_text() == (tmp_path / 'slurm/structure.json').read_text()
    options = ['--cfg-options', *DATA]
    out = {how: tmp_path / f'{how}.json' for how in ('one', 'dist', 'slurm')}
    more = {how: ['--work-dir', tmp_path / f'test_{how}', '--out', path, *options] for how, path in out.items()}
    metrics = evaluate([search, str(checkpoint), *map(str, more['one'])])
    assert 15 < metrics['accuracy/top1'] < 100
    # 1,000 images in batches of 500: two of them for one process, one for each of two.
    for log in (
        start('dist_test.sh', search, checkpoint, 2, *more['dist'], **dist),
        start('slurm_test.sh', 'gpu', 'job', search, checkpoint, *more['slurm'], **slurm),
    ):
        assert '[1/1]' in log and '[2/2]' not in log
    for path in out.values():
        assert json.loads(path.read_text()) == pytest.approx(metrics)
