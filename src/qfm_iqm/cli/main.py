"""`qfm`: the verbs, and the one place where a user's mistake becomes a sentence.

Nothing heavy is imported before a verb runs, so `qfm --help` answers at once.
Exit codes: 0 done; 1 done, with images that could not be scored; 2 a mistake, nothing done, or
a defect of this program; 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from qfm_iqm.cli import (
    ablate,
    average,
    benchmark,
    calibrate,
    card,
    compare,
    cross,
    data,
    diagnose,
    evaluate,
    explain,
    export,
    finish,
    gate,
    pack,
    pseudo_label,
    report,
    score,
    second_opinion,
    serve,
    train,
)
from qfm_iqm.errors import QFMError
from qfm_iqm.processes import keep_current_folder_out

app = typer.Typer(
    name="qfm",
    help="How good does a photo look? Scores without a reference, by QFM-IQM (ICML 2024).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("score")(score.score)
app.command("report")(report.report)
app.command("gate")(gate.gate)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("diagnose")(diagnose.diagnose)
app.command("explain")(explain.explain)
app.command("calibrate")(calibrate.calibrate)
app.command("second-opinion")(second_opinion.second_opinion)
app.command("average")(average.average)
app.command("finish")(finish.finish)
app.command("pack")(pack.pack)
app.command("card")(card.card)
app.command("ablate")(ablate.ablate)
app.command("pseudo-label")(pseudo_label.pseudo_label)
app.command("benchmark")(benchmark.benchmark)
app.command("curve")(benchmark.curve)
app.command("cross")(cross.cross)
app.command("compare")(compare.compare)
app.add_typer(data.app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"qfm-iqm {metadata.version('qfm-iqm')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `qfm` command."""
    keep_current_folder_out()
    try:
        app()
    except QFMError as error:
        print(f"qfm: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception:  # a defect; Python's own code 1 would be an answer here
        traceback.print_exc()
        sys.exit(2)
