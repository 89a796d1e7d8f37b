"""A table of latencies of a model's operators on this machine."""

from __future__ import annotations

from ..measuring import measure as measure_space
from ..models.example import example_of
from ..resources.latency import BACKENDS, Table
from ..space import make_searchable
from .architecture import architecture_of
from .common import add_common, parser_of, tool

HELP = """Measure on this device what a model's operators take at all widths that a search may give them.

  dms measure configs/demo/search.py --out cpu.json
  dms measure timm/efficientnet_b0 --backend onnxruntime --threads 4 --out b0.json
  dms measure torchvision/resnet50 --device cuda --batch 16 --out resnet50.json

The table is what the resource Latency reads, in the search's config:

  space=dict(resources=dict(latency=dict(type='Latency', table='cpu.json'))), target=dict(latency='3ms')

It is written as it grows: the same command goes on where it was interrupted. Nothing else should run meanwhile.
"""


def measure(argv: list[str] | None = None) -> None:
    parser = parser_of('measure', HELP)
    add_common(parser)
    parser.add_argument('--out', required=True, help='the table, a JSON file')
    parser.add_argument('--backend', choices=BACKENDS, default='eager', help='what runs the model (default: eager)')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--batch', type=int, default=1, help='samples of one forward (default: 1)')
    parser.add_argument('--threads', type=int, help="of a CPU (default: torch's)")
    parser.add_argument(
        '--clock', choices=['wall', 'cpu'], default='wall',
        help='cpu: the time of the process alone, for one thread on a CPU that others use, too',
    )  # fmt: skip
    parser.add_argument(
        '--points', type=int, default=7, help='counts of each of two axes, twice as many of a single one'
    )
    parser.add_argument('--models', type=int, default=12, help='whole slim models that correct what adds up')
    parser.add_argument('--patience', type=float, default=0.02, help='seconds for each point (default: 0.02)')
    parser.add_argument('--input-shape', type=int, nargs='+', help="of one sample (default: the config's or model's)")
    args = parser.parse_args(argv)
    for name, least in (('batch', 1), ('points', 2), ('models', 2)):
        if getattr(args, name) < least:
            raise ValueError(f'--{name} {getattr(args, name)}: it is at least {least}')
    subject = architecture_of(args)
    # As a search traces it, whatever batch is measured; tables that it reads are not there yet.
    example, call = example_of(subject.model, subject.shape), subject.call
    options = {**subject.options, 'resources': None, 'forward_fn': call, 'verify': 'shapes'}
    space = make_searchable(subject.model, example, **options)
    table = measure_space(
        space, example, args.out, model=args.config, backend=args.backend, device=args.device, batch=args.batch,
        threads=args.threads, clock=args.clock, points=args.points, models=args.models, patience=args.patience,
        forward=call,
    )  # fmt: skip
    print(told(table, args.out))


def told(table: Table, path: str) -> str:
    """What was measured, in a few lines."""
    assert table.correction is not None
    times = sorted(m.seconds for m in table.models)
    spread = sorted(m.spread for m in table.models)[len(table.models) // 2]
    lines = [
        f'{path}: {table.told()}',
        f'{len(table.operators)} operators; {len(table.models)} slim models of {1e3 * times[0]:.3g} to '
        f'{1e3 * times[-1]:.3g} ms, each within {spread:.1%} of itself and {table.correction.error:.1%} of the table',
    ]
    notes = [f'  {times.name}: {times.note}' for times in table.operators.values() if times.note]
    if notes:
        lines += ['could not be run by themselves, and count by whole models alone:', *notes]
    return '\n'.join(lines)


main = tool(measure)
