"""What every search leaves behind: its structure in four files, and what it cost."""

from __future__ import annotations

import json
import os
import os.path as osp
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import is_main_process
from torch import nn

from ..algorithms.budget import Ending
from ..algorithms.cost import Cost, count_samples
from ..slimming import Structure, StructureError
from ..space import SearchSpace
from ..visualization import plot_widths, unit_table

KEY = 'search_cost'  # in the runner's message hub, and so in checkpoints


class Meter:
    """The cost of training a supernet by a runner; goes on where a resumed checkpoint left it.

    Attributes:
        cost: seconds since the training began, and the forward and backward passes of every batch.
    """

    def __init__(self, runner: Any, space: SearchSpace) -> None:
        self.runner, self.macs = runner, float(space.supernet['macs'])
        known = runner.message_hub.runtime_info.get(KEY) if runner.iter else None
        self.cost = Cost.restore(known) if known else Cost()
        self.cost.start()

    def step(self, batch: Any) -> None:
        self.cost.add(self.macs, count_samples(batch), backward=True)
        self.runner.message_hub.update_info(KEY, self.cost.as_dict())


def write_results(
    runner: Any,
    space: SearchSpace,
    structure: Structure,
    cost: Cost,
    told: Mapping[str, Any] | None = None,
    ending: Ending | None = None,
) -> None:
    """``structure.json``, ``slim.pth`` (the kept weights, a plain state_dict), ``units.md`` (each unit before and
    after, and how it came to its targets), ``widths.png`` and ``cost.json`` (with what else is ``told``) in the work
    directory, by the main process."""
    if not is_main_process():
        return
    folder = runner.work_dir
    structure.save(osp.join(folder, 'structure.json'))
    save_weights(space.slim(), osp.join(folder, 'slim.pth'))
    with open(osp.join(folder, 'units.md'), 'w') as file:
        file.write(unit_table(structure) + (f'\n{ending}\n' if ending else ''))
    plot_widths(structure, osp.join(folder, 'widths.png'))
    with open(osp.join(folder, 'cost.json'), 'w') as file:
        json.dump({**cost.as_dict(), **({'targets': ending.as_dict()} if ending else {}), **(told or {})}, file)
    runner.logger.info('found structure:\n' + space.report(structure))
    found = ', '.join(f'{k} {v:,} of {structure.supernet[k]:,}' for k, v in structure.resources.items())
    runner.logger.info(f'{found}; written to {folder}: structure.json, slim.pth, units.md, widths.png, cost.json')
    if ending:
        runner.logger.info(str(ending))
    runner.logger.info(f'the search cost {cost}')


def write_passed(runner: Any, space: SearchSpace, name: str, structure: Structure) -> None:
    """``structure_0.30.json`` and ``slim_0.30.pth``, with the present weights, of a budget that a search has just
    passed, by the main process."""
    if not is_main_process():
        return
    save_weights(space.slim(structure=structure), osp.join(runner.work_dir, f'slim_{name}.pth'))
    structure.save(osp.join(runner.work_dir, f'structure_{name}.json'))
    found = ', '.join(f'{k} {v:,} of {structure.supernet[k]:,}' for k, v in structure.resources.items())
    runner.logger.info(f'passed the budget of {name}: {found}; written to structure_{name}.json and slim_{name}.pth')


def write_missing(runner: Any, passed: Mapping[str, Structure]) -> None:
    """Structures that were passed before a run was resumed into this work directory from another one."""
    for name, structure in passed.items() if is_main_process() else ():
        path = osp.join(runner.work_dir, f'structure_{name}.json')
        try:
            if Structure.load(path) == structure:
                continue
        except StructureError:
            pass  # none, or no whole one
        structure.save(path)
        runner.logger.info(
            f'wrote structure_{name}.json, which was passed before this run was resumed; slim_{name}.pth is in the '
            'work directory of that time'
        )


def save_weights(model: nn.Module, path: str) -> None:
    """A plain state_dict on the CPU."""
    save_whole({k: v.cpu() for k, v in model.state_dict().items()}, path)


def save_whole(value: Any, path: str) -> None:
    """A file that appears whole or not at all."""
    temporary = osp.join(osp.dirname(path), f'.{osp.basename(path)}.tmp')
    torch.save(value, temporary)
    os.replace(temporary, path)
