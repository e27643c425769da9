"""Writes docs/qfm.1, the man page of `qfm`, from the parser.

    python docs/man_page.py    # `make surface` does it too

`man ./docs/qfm.1` shows it; a wheel installs it, so that `man qfm` finds it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import qfm_iqm
from qfm_iqm.cli.commands import app
from qfm_iqm.exit_codes import ExitCode

PAGE = Path(__file__).with_name("qfm.1")


def man_page() -> str:
    """The page in roff's man macros."""
    return "\n".join(_lines(typer.main.get_command(app))) + "\n"


def _lines(command: Any) -> Iterator[str]:
    yield f'.TH QFM 1 "" "qfm-iqm {qfm_iqm.__version__}" "User Commands"'
    yield ".SH NAME"
    yield _text("qfm - how good does a photo look? Scores without a reference image")
    yield ".SH SYNOPSIS"
    yield r".B qfm"
    yield r"\fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]"
    yield ".SH DESCRIPTION"
    yield _text(command.help)
    yield from _parameters(command)
    yield ".SH COMMANDS"
    yield from _commands(command, "qfm")
    yield ".SH EXIT STATUS"
    for code in ExitCode:
        yield from _entry(_term(str(code.value), "B"), code.meaning.replace("`", ""))


def _commands(group: Any, path: str) -> Iterator[str]:
    """Each verb, also in groups, with its arguments and options."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
            continue
        arguments = (
            _term(one.name.upper(), "I") + ("..." if one.nargs == -1 else "")
            for one in command.params
            if one.param_type_name == "argument"
        )
        yield " ".join((f".SS {path} {name}", *arguments))
        yield _text(command.help)
        yield from _parameters(command)


def _parameters(command: Any) -> Iterator[str]:
    context = typer.Context(command)
    for one in command.params:
        names, said = one.get_help_record(context) or ("", "")
        bounds = re.search(r"\[[^\[\]]+\]$", said)  # after the help: default, limits, "required"
        off = bounds is None or bounds[0].startswith("[default: no-")
        told = one.help or "" if off else f"{one.help or ''} {bounds[0]}"
        if one.param_type_name == "argument":
            yield from _entry(_term(one.name.upper(), "I"), told)
            continue
        options, _, value = re.fullmatch(r"((?:-[^ ,]+(?:, | / )?)+)( (.*))?", names).groups()
        term = ", ".join(_term(name, "B") for name in re.split(", | / ", options))
        yield from _entry(f"{term} {_term(value.strip('<>'), 'I')}" if value else term, told)


def _term(text: str, font: str) -> str:
    return rf"\f{font}{_text(text)}\fR"


def _entry(term: str, told: str) -> Iterator[str]:
    yield ".TP"
    yield term
    yield _text(told)


def _text(text: str) -> str:
    """Plain text, escaped for roff."""
    escaped = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-")
    return r"\&" + escaped if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    PAGE.write_text(man_page(), "utf-8")
