"""The command ``dms``: what its commands are for, and the one that is asked for."""

from __future__ import annotations

import importlib
import sys

from .. import __version__

COMMANDS = {
    'inspect': "what can be searched in a model, and why the rest can't",
    'train': 'search, retrain or pretrain by a config',
    'test': 'evaluate a checkpoint by a config',
    'measure': 'a table of latencies on this device, for searches with a latency as target',
    'slim': 'structure file + checkpoint -> slim weights, config and ONNX',
    'uniform': 'the baseline of a search: its supernet scaled uniformly to the same target',
    'retarget': 'checkpoint of a search -> structure file of another budget, in seconds',
    'sweep': 'retrain or evaluate the structures of all budgets: a table and a picture',
    'host': "run a tool of MMPretrain, MMDetection or MMYOLO on this project's configs",
}


def usage() -> str:
    lines = [f'  {name:<9} {purpose}' for name, purpose in COMMANDS.items()]
    return '\n'.join(
        [
            'usage: dms COMMAND ...   or   dms --version',
            '',
            'Differentiable Model Scaling: the width of every layer and the depth of every stage under a budget.',
            '',
            *lines,
            '',
            '`dms COMMAND --help` shows the options of a command, and examples.',
        ]
    )


def main() -> int:
    first = sys.argv[1] if len(sys.argv) > 1 else ''
    if first in COMMANDS:
        return int(importlib.import_module(f'dms_mm.cli.{first}').main(sys.argv[2:]))
    if first in ('--version', '-V'):
        print(f'dms_mm {__version__}')
        return 0
    if first in ('', '--help', '-h', 'help'):
        print(usage())
        return 0 if first else 2
    print(f'error: dms has no command {first!r}; it has {", ".join(COMMANDS)}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
