"""Writes the public surface: verbs and options, recipe keys, row columns, names of the package.

    python tests/public_surface.py

It also writes the man page. `tests/test_public_surface.py` and `tests/test_man_page.py` compare
the code with both files.
"""

import runpy
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import typer
from typer.core import TyperCommand, TyperGroup

import qfm_iqm
from qfm_iqm.cli.commands import app
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.training.recipe_file import recipe_keys

FILE = Path(__file__).with_name("public_surface.txt")


def options(command: TyperCommand | TyperGroup, name: str) -> Iterator[str]:
    """A line for each verb below a command, with its arguments and options."""
    if verbs := getattr(command, "commands", None):
        for verb, inner in verbs.items():
            yield from options(inner, f"{name} {verb}")
        return
    said = []
    for parameter in command.params:
        names = " ".join(parameter.opts + parameter.secondary_opts)
        said.append(names if parameter.param_type_name == "option" else names.upper())
    yield f"{name}: {', '.join(said)}"


def surface() -> str:
    """The whole surface as text."""
    sections = {
        "verbs and options": options(typer.main.get_command(app), "qfm"),
        "recipe keys": recipe_keys(),
        "row columns": (field.name for field in fields(ScoreRow)),
        "qfm_iqm.__all__": sorted(qfm_iqm.__all__),
    }
    return "\n".join(
        f"# {title}\n" + "".join(f"{line}\n" for line in lines) for title, lines in sections.items()
    )


if __name__ == "__main__":
    FILE.write_text(surface(), "utf-8")
    runpy.run_path(str(FILE.parents[1] / "docs" / "man_page.py"), run_name="__main__")
