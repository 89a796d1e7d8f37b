"""The baseline that a search has to beat: uniform scaling to the same budget."""

from __future__ import annotations

from mmengine.registry import MODELS, init_default_scope

from ..algorithms.budget import uniform_keep
from .common import add_common, load_config, parser_of, tool

HELP = """Scale the supernet of a search config uniformly to the config's target and write the structure file.

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
    keep = uniform_keep(space, built.target, args.depth)
    space.set_keep({u.name: keep[u.start : u.start + u.size] for u in space.units.values()})
    structure = space.structure()
    structure.save(args.out)
    print(f'{", ".join(f"{k} {v:,}" for k, v in structure.resources.items())}; written to {args.out}')


main = tool(uniform)
