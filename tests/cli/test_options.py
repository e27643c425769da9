"""Progress: a bar in a terminal, lines in logs, nothing for short work."""

import io
import math

import pytest
from rich.console import Console

from qfm_iqm.cli import options
from qfm_iqm.errors import QFMError


def progress_of(console, total=4):
    return list(options.with_progress(iter(range(total)), total, "scoring", console))


def test_a_log_gets_lines_only_as_time_goes_by(monkeypatch):
    log = Console(file=io.StringIO(), width=80)
    assert progress_of(log) == [0, 1, 2, 3]
    assert log.file.getvalue() == ""
    monkeypatch.setattr(options, "LINE_EVERY", 0.0)
    assert progress_of(log) == [0, 1, 2, 3]
    assert [line.split(",")[0] for line in log.file.getvalue().splitlines()] == [
        "scoring: 1 of 4",
        "scoring: 2 of 4",
        "scoring: 3 of 4",
    ]
    assert "left" not in log.file.getvalue()  # too few items for an estimate


def test_a_terminal_gets_a_bar_that_goes_away():
    terminal = Console(file=io.StringIO(), width=80, force_terminal=True)
    assert progress_of(terminal) == [0, 1, 2, 3]
    assert "4/4" in terminal.file.getvalue()


@pytest.mark.parametrize("value", [0.0, -1.0, 4e-7, math.nan, math.inf])
def test_millions_that_make_no_limit(value):
    with pytest.raises(QFMError, match=f"--max-megapixels must be .*, not {value:g}"):
        options.millions(value, "--max-megapixels")
    assert options.millions(0.5, "--max-megapixels") == 500_000
