"""Mistakes in the call of `qfm`, each as one sentence: an unknown verb or option, a bad value."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from qfm_iqm.errors import QFMError, nearest

# Where it is to be imported from depends on typer's version; this subclass has one place.
UsageError: type[Any] = typer.BadParameter.__mro__[1]


class Verbs(TyperGroup):
    """All verbs: a mistake in the call raises a `QFMError`, where typer would print a box."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Reads what comes before a verb."""
        with self._sentences():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Reads what comes after a verb, and runs it."""
        with self._sentences():
            return super().invoke(ctx)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # is no mistake: typer shows the help
                raise
            raise QFMError(_sentence(error, self, sys.argv[1:])) from error


def _sentence(error: Any, command: Any, words: Sequence[str]) -> str:
    """What is wrong, and where help is.

    Args:
        error: typer's.
        command: all verbs.
        words: of the call.
    """
    verb = "qfm"
    for word in words:  # what comes before a verb is an option that ends the program at once
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
    """The names of a verb's options, and of what switches them off."""
    return [name for one in command.params for name in (*one.opts, *one.secondary_opts)]


def _name(parameter: Any) -> str:
    """An option as it is given, or an argument as the man page writes it."""
    names: list[str] = parameter.opts
    return max(names, key=len) if parameter.param_type_name == "option" else names[0].upper()


def _reason(error: Any) -> str:
    """Why a value cannot be used; of newer typer's reasons, with the value."""
    reason: str = error.message.rstrip(".").removeprefix("Value error, ")
    if details := getattr(error.__cause__, "errors", None):
        return reason.replace("Input", repr(details()[0]["input"]), 1)
    return reason
