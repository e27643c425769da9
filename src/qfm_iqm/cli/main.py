"""`qfm`: the verbs, and the one place where a user's mistake becomes a sentence.

Nothing heavy is imported before a verb runs, so `qfm --help` answers at once. `ExitCode` lists the
exit codes.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
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
)
from qfm_iqm.errors import QFMError
from qfm_iqm.exit_codes import ExitCode
from qfm_iqm.processes import keep_current_folder_out

app = typer.Typer(
    name="qfm",
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


def main() -> None:
    """Entry point of the `qfm` command."""
    keep_current_folder_out()
    _open_closed_streams()
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        code = ExitCode.READER_LEFT
    except OSError as error:
        print(f"qfm: The output cannot be written: {error.strerror}.", file=sys.stderr)
        code = ExitCode.FAILED
    else:
        sys.exit(code)
    # What is still held back for a reader would fail once more when Python ends.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2) if code == ExitCode.READER_LEFT else (1,):
        os.dup2(nowhere, stream)
    sys.exit(code)


def _run() -> str | int | None:
    """Runs the verb that was asked for, and gives its exit code.

    Raises:
        OSError: the output cannot be written; `BrokenPipeError` if nobody reads it any more.
    """
    try:
        app()
    except QFMError as error:
        print(f"qfm: {error}", file=sys.stderr)
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # that typer and rich made a code of
            raise left.__context__ from None
        return left.code
    except OSError as error:
        if isinstance(error, BrokenPipeError) or _is_full(error):
            raise
        traceback.print_exc()
    except Exception:  # a defect; Python's own code 1 would be an answer here
        traceback.print_exc()
    return ExitCode.FAILED


def _is_full(error: OSError) -> bool:
    """Whether no room is left for the output; of a file, an error names it."""
    return error.errno == errno.ENOSPC and error.filename is None


def _open_closed_streams() -> None:
    """Opens the null device in place of standard streams that the caller has closed (`>&-`).

    Else the first file that is opened would take a stream's number, and what is meant for the
    terminal would go into it.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
