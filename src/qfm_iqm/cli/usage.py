"""Usage errors of `qfm` as one sentence each: an unknown verb or option, a bad value."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from qfm_iqm.errors import QFMError, nearest

# Its import path depends on typer's version; that of this subclass does not.
UsageError: type[Any] = typer.BadParameter.__mro__[1]


class Verbs(TyperGroup):
    """All verbs: a usage error raises a `QFMError`, where typer would print a box."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parses the arguments before a verb."""
        with self._sentences():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Parses the arguments after a verb, and runs it."""
        with self._sentences():
            return super().invoke(ctx)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # not an error: typer shows help
                raise
            raise QFMError(_sentence(error, self, sys.argv[1:])) from error


def _sentence(error: Any, command: Any, words: Sequence[str]) -> str:
    """The error in one sentence that points to the help.

    Args:
        error: typer's usage error.
        command: the group of all verbs.
        words: command line arguments.
    """
    verb = "qfm"
    for word in words:  # only options that end the program stand before a verb
        below = getattr(command, "commands", {})
        if word not in below:
            break
        verb, command = f"{verb} {word}", below[word]
    else:
        word, below = "", getattr(command, "commands", {})
    parameter = getattr(error, "param", None)
    if below and word and not word.startswith("-"):
        problem = f"There is no verb '{word}'{nearest(word, below)}"
    elif hasattr(error, "possibilities"):
        option: str = error.option_name
        problem = f"There is no option '{option}'{nearest(option, _options(command))}"
    elif parameter is None:
        problem = error.message.rstrip(".")
    elif hasattr(error, "param_type"):
        problem = f"{_name(parameter)} is missing"
    else:
        problem = f"{_name(parameter)}: {_reason(error)}"
    return f"{problem}: see {verb} --help."


def _options(command: TyperCommand) -> list[str]:
    """The names of a verb's options, with the --no- names that switch them off."""
    return [name for one in command.params for name in (*one.opts, *one.secondary_opts)]


def _name(parameter: Any) -> str:
    """The long name of an option, or an argument's name in capitals as in a man page."""
    names: list[str] = parameter.opts
    return max(names, key=len) if parameter.param_type_name == "option" else names[0].upper()


def _reason(error: Any) -> str:
    """Why a value is invalid; with the value if newer typer versions leave it out."""
    reason: str = error.message.rstrip(".").removeprefix("Value error, ")
    if details := getattr(error.__cause__, "errors", None):
        return reason.replace("Input", repr(details()[0]["input"]), 1)
    return reason
