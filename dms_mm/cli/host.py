"""Run a host library's own tool on configs and checkpoints of this project."""

from __future__ import annotations

import argparse
import importlib
import runpy
import sys
from pathlib import Path

from ..models.hosts import import_scope
from ..registry import register_all
from .common import parser_of, tool, training

LIBRARIES = ('mmpretrain', 'mmdet', 'mmyolo')
HELP = """Run a tool that a host library brings along, with its usual arguments, on configs of this project:

  dms host mmyolo test configs/yolov8/retrain_yolov8-n.py work_dirs/retrain_yolov8-n/epoch_500.pth
  dms host mmyolo analysis_tools/get_flops configs/yolov8/retrain_yolov8-n.py

The types of dms_mm are registered first, and the library imported as tools/train.py does.
"""


def host(argv: list[str] | None = None) -> None:
    parser = parser_of('host', HELP)
    parser.add_argument('library', choices=LIBRARIES)
    parser.add_argument('tool', help='path below its tools/, without .py: test, analysis_tools/get_flops')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help='handed on')
    args = parser.parse_args(argv)
    register_all()
    import_scope(args.library)
    package = importlib.import_module(args.library).__file__
    assert package is not None
    folder = Path(package).parent / '.mim/tools'
    script = (folder / f'{args.tool}.py').resolve()
    if not script.is_file() or folder.resolve() not in script.parents:
        names = sorted(str(p.relative_to(folder))[:-3] for p in folder.rglob('*.py') if p.stem != '__init__')
        raise ValueError(f'{args.library} has no tool {args.tool!r}; its tools are: {", ".join(names)}')
    before = sys.argv
    sys.argv = [str(script), *args.arguments]
    try:
        training(lambda: runpy.run_path(str(script), run_name='__main__'))
    finally:
        sys.argv = before


main = tool(host)
