"""The command ``dms``: ``dms inspect``, ``dms train``, ``dms test``, ``dms slim``, ``dms uniform``, ``dms host``."""

from __future__ import annotations

import importlib
import sys

COMMANDS = ('inspect', 'train', 'test', 'slim', 'uniform', 'host')


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print(f'usage: dms {{{",".join(COMMANDS)}}} ...', file=sys.stderr)
        return 2
    return int(importlib.import_module(f'dms_mm.cli.{sys.argv[1]}').main(sys.argv[2:]))
