#!/usr/bin/env python
"""See ``python tools/sweep.py --help``; the code is dms_mm/cli/sweep.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from dms_mm.cli.sweep import main

if __name__ == '__main__':
    sys.exit(main())
