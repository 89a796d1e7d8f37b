"""Rows of results, and the tables made of them between their markers in a document."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def write_block(document: str, name: str, text: str) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->``, and say which command did it."""
    path = ROOT / document
    command = 'python ' + ' '.join(sys.argv)
    block = f'<!-- {name} -->\n{text.strip()}\n\nWritten by `{command}`.\n<!-- /{name} -->'
    content, count = re.subn(f'<!-- {name} -->.*?<!-- /{name} -->', lambda _: block, path.read_text(), flags=re.S)
    if count != 1:
        raise SystemExit(f'{document} has no block {name!r}')
    path.write_text(content)


def append_row(path: Path, row: dict) -> None:
    """Add a result to a file of JSON lines, and show it."""
    with path.open('a') as file:
        file.write(json.dumps(row) + '\n')
    print(row, flush=True)


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
