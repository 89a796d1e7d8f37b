#!/usr/bin/env python
"""See ``python tools/measure.py --help``; the code is dms_mm/cli/measure.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from dms_mm.cli.measure import main

if __name__ == '__main__':
    sys.exit(main())
