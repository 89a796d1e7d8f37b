#!/usr/bin/env bash
# Makes a virtual environment with everything that a use of dms_mm needs.
#   tools/setup_env.sh {demo|test} [VENV]       VENV defaults to .venv
# demo: search, slim, retrain and classification; no compiler. test: also detection (compiles mmcv's ops), llm, tests.
set -euo pipefail
cd "$(dirname "$0")/.."
KIND=${1:?usage: tools/setup_env.sh demo|test [VENV]}
VENV=${2:-.venv}
PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "dms_mm needs Python 3.10 or newer" >&2; exit 1; }

# A finished kind leaves a stamp that names what it was made from, so that a second call takes no time.
STAMP=$(cat requirements/*.txt setup.py tools/setup_env.sh tools/build_mmcv_ops.sh | sha256sum | cut -c1-16)
done_kind() { [ -f "$VENV/.dms-$1-$STAMP" ]; }
if done_kind "$KIND" || { [ "$KIND" = demo ] && done_kind test; }; then exit 0; fi

if [ ! -x "$VENV/bin/python" ]; then
    "$PYTHON" -m venv "$VENV" || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
fi
PIP() { "$VENV/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
echo "installing into $VENV (some minutes and 7 GB, most of it torch) ..."
PIP -r requirements/build.txt
grep -E '^(torch|torchvision|numpy)' requirements/runtime.txt > "$VENV/first.txt"
PIP -r "$VENV/first.txt"
if ! "$VENV/bin/python" -c 'import importlib.metadata as m; m.version("onedl-mmcv")' 2>/dev/null; then
    # In its own build environment, without torch, mmcv is installed without compiled ops: enough for classification.
    PIP onedl-mmcv==2.3.6
fi
# The forks' other source packages import torch while they build.
PIP --no-build-isolation -r requirements/runtime.txt -r requirements/demo.txt
if [ "$KIND" = test ]; then
    "$VENV/bin/python" -c 'import mmcv.ops' 2>/dev/null || bash tools/build_mmcv_ops.sh "$VENV/bin/python"
    PIP --no-build-isolation -r requirements/detection.txt -r requirements/llm.txt -r requirements/tests.txt
fi
PIP --no-build-isolation --no-deps -e .
touch "$VENV/.dms-$KIND-$STAMP"
