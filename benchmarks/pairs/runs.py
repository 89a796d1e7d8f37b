"""One structure, one retraining, one row: what every comparison of this folder is made of.

A *structure* is made by a method from a seed; a *retraining* of it has a seed of its own. Rows say both, so that the
spread of retraining and that of structures are told apart. A row that is there is not made again, so a list of jobs
goes on where it was stopped.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]
from _docs import append_row, read_rows  # noqa: E402
from nets import NETS, TRAINING  # noqa: E402
from quality import accuracy, fit, load  # noqa: E402

from dms_mm import Search, SearchSpace, Structure, build_slim, make_searchable  # noqa: E402
from dms_mm.algorithms.budget import uniform_keep  # noqa: E402
from dms_mm.algorithms.candidates import SHARES, candidates_of, compare  # noqa: E402
from dms_mm.algorithms.opening import open_branches  # noqa: E402
from dms_mm.algorithms.strategies.structures import random_keep, structure_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / 'benchmarks/results/pairs.jsonl'
STRUCTURES = ROOT / 'work_dirs/pairs'
HELD_OUT = 5000  # of the training images, for whatever is chosen
SPREAD = 0.4  # of the logarithms of random widths
KEY = ('net', 'budget', 'method', 'options', 'seed', 'retrain', 'held_out')


def searchable(net: str, seed: int) -> SearchSpace:
    torch.manual_seed(seed)
    return make_searchable(NETS[net](), example(), verify='shapes')


def example() -> torch.Tensor:
    return torch.zeros(2, 1, 28, 28)


def hardened(space: SearchSpace, keep: torch.Tensor) -> Structure:
    space.bank.harden_all(keep)
    return space.structure()


def random_structure(space: SearchSpace, budget: float, seed: int) -> Structure:
    return hardened(space, random_keep(space, {'macs': budget}, torch.Generator().manual_seed(seed), SPREAD))


def make(job: dict[str, Any], images: torch.Tensor, labels: torch.Tensor) -> tuple[Structure, dict[str, Any]]:
    """The structure of a job, and what is to be told of its making."""
    space = searchable(job['net'], job['seed'])
    method, begin = job['method'], time.time()
    if method == 'random':
        return random_structure(space, job['budget'], job['seed']), {}
    if method.startswith('uniform'):
        keep = uniform_keep(space, {'macs': job['budget']}, scale_depth=method == 'uniform-depth')
        return hardened(space, keep), {}
    options = json.loads(job['options'])
    epochs, lr = options.pop('epochs', TRAINING[job['net']][0]), TRAINING[job['net']][2]
    opened = open_branches(space, example()) if options.pop('open', True) else []
    trial = options.pop('candidates', 0)
    search = Search(space, {'macs': job['budget']}, int(epochs * (len(images) // 128)), rule=method, **options)
    fit(space.model, images, labels, epochs, job['seed'], lr, search)
    told: dict[str, Any] = dict(opened=len(opened), search_s=round(time.time() - begin, 1))
    if known := search.confidence():
        told['confidence'] = round(sum(known.values()) / len(known), 3)
    return search.finalize(chosen(job, search, trial, images, labels, told) if trial else None), told


def chosen(
    job: dict[str, Any], search: Search, epochs: float, images: torch.Tensor, labels: torch.Tensor, told: dict[str, Any]
) -> torch.Tensor:
    """The best of a few structures after so many epochs, on training images that these don't see."""
    lr, seen = TRAINING[job['net']][2], len(images) - HELD_OUT

    def train(model: torch.nn.Module) -> int:
        fit(model, images[:seen], labels[:seen], epochs, job['seed'], lr)
        return int(epochs * (seen // 128)) * 128

    def fresh(space: SearchSpace, keep: torch.Tensor) -> torch.nn.Module:
        torch.manual_seed(job['seed'])
        return build_slim(NETS[job['net']](), structure_of(space, keep))

    structures = candidates_of(search)
    done = compare(
        search.space, structures, train, lambda m: (accuracy(m, images[seen:], labels[seen:]), HELD_OUT), fresh
    )
    told.update(taken=SHARES[done.best], candidates=[round(x, 2) for x in done.scores])
    told['candidates_s'] = round(done.cost.seconds, 1)
    return structures[done.best]


def run(job: dict[str, Any], threads: int = 1) -> None:
    """Append the row of a job, unless it is there; its structure is kept beside the rows for further retrainings."""
    row = {**job, 'held_out': bool(job['held_out'])}
    key = [row[k] for k in KEY]
    if any([r[k] for k in KEY] == key for r in read_rows(RESULTS)):
        return
    torch.set_num_threads(threads)
    images, labels = load('train')
    if job['held_out']:
        score = images[-HELD_OUT:], labels[-HELD_OUT:]
        images, labels = images[:-HELD_OUT], labels[:-HELD_OUT]
    else:
        score = load('test')
    path = STRUCTURES / f'{"-".join(str(row[k]) for k in KEY if k != "retrain")}.json'
    path = path.with_name(''.join(c if c.isalnum() or c in '-._' else '_' for c in path.name))
    if path.exists():
        structure = Structure.load(path)
    else:
        structure, told = make(job, images, labels)
        row.update(told)
        path.parent.mkdir(parents=True, exist_ok=True)
        structure.save(path)
    _, epochs, lr = TRAINING[job['net']]
    torch.manual_seed(1000 + job['retrain'])
    slim = build_slim(NETS[job['net']](), copy.deepcopy(structure))
    row['retrain_s'] = round(fit(slim, images, labels, epochs, 100 + job['retrain'], lr), 1)
    row['accuracy'] = round(accuracy(slim, *score), 2)
    row['macs'] = structure.resources['macs']
    row['widths'] = ' '.join(f'{structure.kept(n)}/{u["size"]}' for n, u in structure.units.items())
    append_row(RESULTS, row)
