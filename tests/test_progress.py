"""What runs long says so: lines in a log, a bar on a terminal, nothing of what is short."""

import io

import pytest
from rich.console import Console

from dms_mm import progress
from dms_mm.progress import Progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, 'perf_counter', clock)
    return clock


def on(work: Progress, terminal: bool) -> io.StringIO:
    out = io.StringIO()
    work.console = Console(file=out, force_terminal=terminal, width=120)
    return out


def test_short_work_says_nothing_and_long_work_seldom(clock):
    work = Progress('counting', 100)
    out = on(work, terminal=False)
    for _ in work.over(range(100)):
        clock.now += 1.0
    lines = out.getvalue().splitlines()
    assert 4 <= len(lines) <= 8
    assert lines[0].startswith('dms_mm: counting: 5 of 100, 95 s left')
    work = Progress('counting', 4)
    out = on(work, terminal=False)
    list(work.over(range(4)))
    assert out.getvalue() == ''


def test_a_terminal_shows_a_bar_with_numbers_and_is_left_clean(clock):
    with Progress('training', 10, patience=0.0) as work:
        out = on(work, terminal=True)
        work.at(5, loss=0.123456, accuracy=88.0)
        work.bar.refresh()
        text = out.getvalue()
        assert 'training' in text and '5/10' in text and 'loss 0.1235' in text and 'accuracy 88' in text
    assert work.bar is None and out.getvalue().endswith('\x1b[2K')


def test_an_error_inside_ends_the_bar(clock):
    with pytest.raises(RuntimeError, match='inside'), Progress('training', 10, patience=0.0) as work:
        on(work, terminal=True)
        work.step()
        raise RuntimeError('inside')
    assert work.bar is None
