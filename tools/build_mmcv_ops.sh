#!/usr/bin/env bash
# Builds a wheel of mmcv with its compiled ops for the torch in a virtual environment, and installs it there.
#   tools/build_mmcv_ops.sh [PYTHON]       PYTHON defaults to .venv/bin/python
# FORCE_CUDA=1 builds the CUDA ops. The wheel is kept under ${XDG_CACHE_HOME:-~/.cache}/dms_mm, so that a
# second environment with the same torch takes seconds.
set -euo pipefail
PY=$(realpath -s "${1:-.venv/bin/python}")
VERSION=2.3.6
CUDA=${FORCE_CUDA:-0}
TAG=$("$PY" -c 'import torch, sys, platform; print(f"torch{torch.__version__}-py{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}")')
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/dms_mm/mmcv-$VERSION-$TAG-cuda$CUDA"

if ! ls "$CACHE"/*.whl >/dev/null 2>&1; then
    command -v "${CXX:-g++}" >/dev/null || { echo "mmcv's ops need a C++ compiler: install g++ (Debian: apt-get install g++)" >&2; exit 1; }
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    "$PY" -m pip download -q --no-deps --no-binary :all: --no-build-isolation -d "$WORK" "onedl-mmcv==$VERSION"
    tar xzf "$WORK"/onedl_mmcv-*.tar.gz -C "$WORK"
    cd "$WORK/onedl_mmcv-$VERSION"
    # torch's headers from 2.12 on refuse C++17, which the sdist asks for.
    sed -i 's/-std=c++17/-std=c++20/g' setup.py
    FLAGS=()
    if [ "$CUDA" = 0 ]; then
        # 60 sources include torch's headers; parsing them once takes the build from a quarter of an hour to minutes.
        mapfile -t INC < <("$PY" -c 'from torch.utils.cpp_extension import include_paths as i; import sysconfig; print("\n".join(i() + [sysconfig.get_path("include")]))')
        BASE=$("$PY" -c 'import sysconfig; print(" ".join(f for f in (sysconfig.get_config_var("CFLAGS") or "").split() if f in ("-pthread", "-fwrapv", "-DNDEBUG")))')
        mkdir pch && echo '#include <torch/types.h>' > pch/dms_pch.h
        # shellcheck disable=SC2086
        if "${CXX:-g++}" -x c++-header pch/dms_pch.h -o pch/dms_pch.h.gch -std=c++20 -O2 -g0 -fPIC $BASE -Wall \
            -DTORCH_API_INCLUDE_EXTENSION_H -DTORCH_EXTENSION_NAME=_ext "${INC[@]/#/-I}"; then
            FLAGS=(-include "$PWD/pch/dms_pch.h")
        fi
    fi
    CFLAGS="-O2 -g0 ${FLAGS[*]:-}" FORCE_CUDA=$CUDA MAX_JOBS=${MAX_JOBS:-$(nproc)} \
        "$PY" -m pip wheel --no-deps --no-build-isolation --no-cache-dir -w "$WORK/out" . > "$WORK/build.log" 2>&1 ||
        { tail -n 60 "$WORK/build.log" >&2; echo "mmcv's ops failed to build" >&2; exit 1; }
    mkdir -p "$CACHE"
    mv "$WORK"/out/*.whl "$CACHE"/
fi
"$PY" -m pip install -q --force-reinstall --no-deps "$CACHE"/*.whl
cd /  # or Python would find the sources, which hold no compiled ops
"$PY" -c 'import mmcv.ops'
echo "mmcv $VERSION with compiled ops is installed."
