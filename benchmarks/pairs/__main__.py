"""Searched, uniform and random structures of equal MACs, on small supernets and Fashion-MNIST.

    python benchmarks/pairs headroom [--net flat ...]      32 random structures of every pair, and uniform scaling
    python benchmarks/pairs try --options '{...}'          a setting of a rule, on held-out training images
    python benchmarks/pairs final                          five seeds of every method, test images, once
    python benchmarks/pairs table                          what there is, into docs/benchmarks.md

A pair is a supernet and a budget. Rows go to benchmarks/results/pairs.jsonl; what is there is not run again, so that
every command goes on where it was stopped. Two processes share the work with ``--part 0/2`` and ``--part 1/2``.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from nets import BUDGETS
from runs import run
from tables import write_tables

RANDOM = 32
UNIFORM = ('uniform', 'uniform-depth')
SEEDS = 5


def job(
    net: str, budget: float, method: str, seed: int, held_out: bool, options: str = '{}', retrain: int | None = None
):
    retrain = seed if retrain is None else retrain
    return dict(net=net, budget=budget, method=method, options=options, seed=seed, retrain=retrain, held_out=held_out)


def pairs(nets: list[str], budget: float | None) -> list[tuple[str, float]]:
    return [(net, b) for net in nets for b in BUDGETS[net] if budget in (None, b)]


def headroom(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Random structures, and retrainings of the uniform ones, which have no spread of structures."""
    jobs = []
    for net, budget in pairs(args.net, args.budget):
        jobs += [job(net, budget, method, 0, True, retrain=r) for method in UNIFORM for r in range(3)]
        jobs += [job(net, budget, 'random', seed, True) for seed in range(RANDOM)]
    return jobs


def tried(args: argparse.Namespace) -> list[dict[str, Any]]:
    return [
        job(net, budget, args.method, seed, True, args.options)
        for seed, (net, budget) in itertools.product(args.seeds, pairs(args.net, args.budget))
    ]


def final(args: argparse.Namespace) -> list[dict[str, Any]]:
    return [
        job(net, budget, method, seed, False)
        for seed in range(SEEDS)
        for net, budget in pairs(args.net, args.budget)
        for method in (args.method, *UNIFORM)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('command', choices=['headroom', 'try', 'final', 'table'])
    parser.add_argument('--net', nargs='+', choices=list(BUDGETS), default=list(BUDGETS))
    parser.add_argument('--budget', type=float, help='one of those in nets.py; without it all of them')
    parser.add_argument('--method', default='balanced', help='a rule of the search')
    parser.add_argument(
        '--options',
        default='{}',
        help='JSON: options of the search; "epochs" and "open" of its run, "candidates": epochs of each',
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--part', default='0/1')
    args = parser.parse_args()
    if args.command == 'table':
        write_tables()
        return
    jobs = {'headroom': headroom, 'try': tried, 'final': final}[args.command](args)
    part, parts = map(int, args.part.split('/'))
    for one in jobs[part::parts]:
        run(one)


if __name__ == '__main__':
    main()
