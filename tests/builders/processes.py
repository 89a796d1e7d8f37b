"""Tools in processes of their own, as a user runs them, and what they need to meet each other."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def command(tool, *args):
    return [sys.executable, str(ROOT / 'tools' / f'{tool}.py'), *map(str, args)]


def run(tool, *args, ok=True, env=None):
    result = subprocess.run(
        command(tool, *args), cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, **(env or {})}
    )
    if ok:
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]
