"""Visible output: a line per epoch, a bar on terminals, and a terminal left in order."""

import io

import pytest
from rich.console import Console

from qfm_iqm.training.reporting import Reporter

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # the cursor


def screen(terminal=False):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, highlight=False)


def an_epoch(reporter, figures):
    reporter.begin_epoch(1, 3, steps=2, done=0)
    reporter.step(0.25, 8)
    reporter.step(0.75, 8)
    assert list(reporter.scoring(iter("abc"), 3)) == ["a", "b", "c"]
    reporter.end_epoch(1, figures, best=True)


def test_a_line_per_epoch_and_no_bar_off_terminals():
    console = screen()
    an_epoch(
        Reporter(console), {"whole/srcc": 0.51234, "whole/plcc": 0.9, "odd/srcc": 0.25, "x": None}
    )
    assert console.file.getvalue() == (
        "epoch 2: loss 0.5000  validation SRCC: whole 0.5123  odd 0.2500  (best so far)\n"
    )


def test_a_bar_with_loss_on_terminals():
    console = screen(terminal=True)
    an_epoch(Reporter(console), {"whole/srcc": 0.5})
    shown = console.file.getvalue()
    assert "epoch 2/3" in shown
    assert "loss 0.5000" in shown
    assert shown.rfind(SHOW) > shown.rfind(HIDE) > -1


def test_silent_without_a_console(capsys):
    reporter = Reporter(None)
    an_epoch(reporter, {"whole/srcc": 0.5})
    reporter.say("hello")
    assert capsys.readouterr() == ("", "")


def test_names_of_groups_are_text_not_markup():
    console = screen()
    an_epoch(Reporter(console), {"[/x][red]a/srcc": 0.5})
    assert "[/x][red]a 0.5000" in console.file.getvalue()


@pytest.mark.parametrize("moment", ["step", "scoring"])
def test_an_interruption_gives_the_cursor_back(moment):
    console = screen(terminal=True)
    reporter = Reporter(console)
    reporter.begin_epoch(0, 1, steps=5, done=2)
    reporter.step(1.0, 4)
    if moment == "scoring":
        next(reporter.scoring(iter("ab"), 2))
    reporter.close()
    shown = console.file.getvalue()
    assert shown.rfind(SHOW) > shown.rfind(HIDE) > -1
