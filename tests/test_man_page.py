"""The man page matches the parser, and groff reads it."""

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from qfm_iqm.cli.commands import app
from qfm_iqm.exit_codes import ExitCode

PAGE = Path(__file__).parents[1] / "docs" / "qfm.1"


def without_what_typer_words(page):
    """A page without kinds of values and bounds: each version of typer has its own words."""
    return re.sub(r" \\fI[^\\]+\\fR$| ?\[[^\[\]]*\]$", "", page, flags=re.MULTILINE)


def test_the_page_is_that_of_the_parser():
    if not typer.main.get_command(app).commands["gate"].params[0].help:
        pytest.skip("old typer with new click loses the help of arguments")
    ours = runpy.run_path(str(PAGE.with_name("man_page.py")))["man_page"]()
    theirs = PAGE.read_text("utf-8")
    same = without_what_typer_words(ours) == without_what_typer_words(theirs)
    assert same, "run make surface to rewrite docs/qfm.1"


def test_groff_shows_every_option_and_exit_code():
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=200n", PAGE],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    text = done.stdout
    for code in ExitCode:
        assert re.search(rf"^ +{code.value} +{code.meaning.split()[0]}", text, re.MULTILINE)

    def look(command, path):
        for name, inner in getattr(command, "commands", {}).items():
            look(inner, f"{path} {name}")
        if not hasattr(command, "commands"):
            section = text[re.search(rf"^ +{path}( |$)", text, re.MULTILINE).end() :]
            for option in command.params:
                for spelled in option.opts:
                    assert spelled.upper() in section.upper(), (path, spelled)

    look(typer.main.get_command(app), "qfm")
