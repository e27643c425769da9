"""All verbs of `qfm` in one typer application.

Heavy modules are imported only when a verb runs, so `qfm --help` answers at once.
"""

from typing import Annotated

import typer

import qfm_iqm
from qfm_iqm.cli import (
    bench,
    calibrate,
    compare,
    cull,
    data,
    evaluate,
    explain,
    export,
    gate,
    info,
    report,
    score,
    serve,
    train,
    usage,
)

app = typer.Typer(
    name="qfm",
    cls=usage.Verbs,
    help="How good does a photo look? Scores without a reference, by QFM-IQM (ICML 2024).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    score.score,
    cull.cull,
    explain.explain,
    report.report,
    gate.gate,
    serve.serve,
    train.train,
    evaluate.evaluate,
    compare.compare,
    calibrate.calibrate,
    export.export,
    info.info,
):
    app.command()(verb)
app.add_typer(data.app)
app.add_typer(bench.app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qfm-iqm {qfm_iqm.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass
