"""What can be searched in a model, and why the rest can't."""

from __future__ import annotations

from typing import Any

from mmengine.config import DictAction

from ..algorithms.budget import preview, with_parts
from ..algorithms.passing import budgets_of
from ..models.example import example_of
from ..registry import plain
from ..space import make_searchable
from .architecture import architecture_of
from .common import add_common, parser_of, tool

HELP = """Print the units of a model, the share of its MACs that they cover, what froze the rest, and what targets mean.

  dms inspect configs/demo/search.py              # the model of a config
  dms inspect timm/deit_tiny_patch16_224          # by name: timm/, torchvision/ or mmpretrain/
  dms inspect torchvision/swin_t --input-shape 3 224 224 --verify
  dms inspect torchvision/resnet50 --target macs=40% params=10M layer4/macs=0.3
"""


def inspect(argv: list[str] | None = None) -> None:
    parser = parser_of('inspect', HELP)
    add_common(parser)
    parser.add_argument('--input-shape', type=int, nargs='+', help="of one sample (default: the config's or model's)")
    parser.add_argument(
        '--verify', choices=['numbers', 'shapes'], nargs='?', const='numbers', default='numbers',
        help='compare slim models with the masked one by numbers (the default), or by shapes alone',
    )  # fmt: skip
    parser.add_argument(
        '--target', nargs='+', action=DictAction, metavar='RESOURCE=AMOUNT',
        help="targets to try (default: the config's): macs=390M params=40%% layer4/macs=0.5",
    )  # fmt: skip
    args = parser.parse_args(argv)
    subject = architecture_of(args)
    target: dict[str, Any] = {}
    if subject.config is not None:
        given = subject.config.model
        target = with_parts(plain(given.get('target', {})), plain(given.get('parts', {})))
        target = with_parts(target, plain(given.get('search', {})).get('parts') or {})
    example = example_of(subject.model, subject.shape)
    options = {**subject.options, 'forward_fn': subject.call}
    space = make_searchable(subject.model, example, verify=args.verify, **options)
    print(space.report())
    for budget in budgets_of(args.target or target):
        print(preview(space, budget))


main = tool(inspect)
