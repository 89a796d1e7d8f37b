"""``python -m dms_mm.tracing.check [--op NAME] [--write]``: 1 if any rule is wrong."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from . import check_operator, targets
from .report import counts, line, table

PAGE = Path(__file__).parents[3] / 'docs' / 'operators.md'


def main() -> int:
    parser = argparse.ArgumentParser(prog='python -m dms_mm.tracing.check', description=__doc__)
    parser.add_argument(
        '--op', action='append', metavar='NAME', help='only this operator (aten::add or add) or program'
    )
    parser.add_argument('--write', action='store_true', help=f'write {PAGE.name}')
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = targets()
    names = [name if name in known or '::' in name else f'aten::{name}' for name in options.op or known]
    verdicts = []
    for name in names:
        verdicts.append(check_operator(name))
        print(line(verdicts[-1]), flush=True)
    print(counts(verdicts))
    if options.write:
        PAGE.write_text(table(verdicts))
    return int(any(verdict.status == 'wrong' for verdict in verdicts))


if __name__ == '__main__':
    raise SystemExit(main())
