#!/usr/bin/env python
"""See ``python tools/retarget.py --help``; the code is dms_mm/cli/retarget.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from dms_mm.cli.retarget import main

if __name__ == '__main__':
    sys.exit(main())
