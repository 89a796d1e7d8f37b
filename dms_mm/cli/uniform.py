"""The baseline that a search has to beat: uniform scaling to the same budget."""

from __future__ import annotations

import os.path as osp

from mmengine.registry import MODELS, init_default_scope

from ..algorithms.budget import uniform_keep
from ..algorithms.passing import names_of, parse_budgets
from ..algorithms.strategies.structures import structure_of
from .common import add_common, load_config, parser_of, tool

HELP = """Scale the supernet of a search config uniformly to the config's target and write the structure file; of
several budgets the last one's, and those of the others beside it (uniform_0.50.json).

  python tools/uniform.py configs/demo/search.py uniform.json --depth
  python tools/train.py configs/demo/retrain.py --cfg-options model.structure=uniform.json
"""


def uniform(argv: list[str] | None = None) -> None:
    parser = parser_of('uniform', HELP)
    add_common(parser)
    parser.add_argument('out', help='structure file to write')
    parser.add_argument('--depth', action='store_true', help='scale depths by the same factor as widths')
    args = parser.parse_args(argv)
    cfg = load_config(args)
    if cfg.model.get('type') not in ('DMS', 'dms_mm.DMS'):
        raise ValueError(f'{args.config} is no search config: its model is not of type dms_mm.DMS')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = cfg.model
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    built = MODELS.build(model)
    space = built.space
    budgets = parse_budgets(space, built.target)
    stem, end = osp.splitext(args.out)
    for name, budget in zip(names_of(space, budgets), budgets):
        path = args.out if budget is budgets[-1] else f'{stem}_{name}{end}'
        structure = structure_of(space, uniform_keep(space, budget, args.depth))
        structure.save(path)
        print(f'{", ".join(f"{k} {v:,}" for k, v in structure.resources.items())}; written to {path}')


main = tool(uniform)
