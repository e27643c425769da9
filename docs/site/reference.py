"""Writes the reference pages from the code; `mkdocs build` runs this."""

import json
from collections.abc import Iterator
from typing import Any

import mkdocs_gen_files
import typer
from typer.cli import get_docs_for_click

import qfm_iqm
from qfm_iqm.cli.commands import app
from qfm_iqm.exit_codes import ExitCode
from qfm_iqm.method.config import MethodConfig
from qfm_iqm.scoring.runtimes.load import load_runtime
from qfm_iqm.serve.app import create_app
from qfm_iqm.training import recipe
from qfm_iqm.training import recipe_schema as schema

SECTIONS = {
    "[model]": recipe.ModelConfig,
    "[data]": schema.DataConfig,
    "[backbone]": schema.BackboneConfig,
    "[network]": schema.NetworkSection,
    "[method]": MethodConfig,
    "[distillation]": schema.DistillationConfig,
    "[augment]": schema.AugmentConfig,
    "[train]": schema.TrainConfig,
    "[teachers.NAME]": recipe.Teacher,
    "[pseudo_labels.NAME]": schema.PseudoLabelTable,
    "[reference]": schema.ReferenceConfig,
    "[export]": schema.ExportConfig,
    "[card]": schema.CardConfig,
}


def command_line() -> str:
    """Every verb and option, from the parser, and the exit codes."""
    command = typer.main.get_command(app)
    told = get_docs_for_click(obj=command, ctx=typer.Context(command), name="qfm")
    codes = "".join(f"* **{code.value}**: {code.meaning}\n" for code in ExitCode)
    return f"{told}\n## Exit codes\n\n{codes}"


def python() -> str:
    """Every public name, from its docstring."""
    return "# Python\n\n" + "\n\n".join(
        described(getattr(qfm_iqm, name), name) for name in qfm_iqm.__all__
    )


def recipes() -> str:
    """A recipe and its sections with their keys, from their docstrings."""
    shown = {"members": False, "show_bases": False, "show_signature": False}
    sections = {"A recipe": recipe.Recipe, **SECTIONS}
    return "# Recipes\n\n" + "\n\n".join(
        described(section, heading, **shown) for heading, section in sections.items()
    )


def described(thing: Any, heading: str, **options: bool) -> str:
    """Makes mkdocstrings render a docstring."""
    chosen = json.dumps({"heading": heading, "toc_label": heading, **options})
    return f"::: {thing.__module__}.{thing.__name__}\n    options: {chosen}\n"


def http() -> Iterator[str]:
    """Every route of the service, from its OpenAPI description."""
    service: dict[str, Any] = create_app(load_runtime()).openapi()
    yield "# HTTP\n"
    yield "`qfm serve` describes itself under `/openapi.json`. These are its routes.\n"
    for path, methods in service["paths"].items():
        for method, route in methods.items():
            yield f"## {method.upper()} {path}\n"
            yield f"{route.get('description') or route.get('summary', '')}\n"
            if parameters := route.get("parameters"):
                yield "| parameter | where | type | what it is |\n|---|---|---|---|"
                for one in parameters:
                    types = one["schema"].get("anyOf", [one["schema"]])
                    kind = " or ".join(found["type"] for found in types)
                    text = one.get("description", "")
                    yield f"| `{one['name']}` | {one['in']} | {kind} | {text} |"
                yield ""
            yield "| status | what it means |\n|---|---|"
            for status, response in route["responses"].items():
                yield f"| {status} | {response['description']} |"
            yield ""


PAGES = {
    "command-line": command_line(),
    "python": python(),
    "recipes": recipes(),
    "http": "\n".join(http()),
}
for page, text in PAGES.items():
    with mkdocs_gen_files.open(f"reference/{page}.md", "w") as file:
        file.write(text)
