"""`qfm score`: photos in, a table of scores out."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qfm_iqm.cli.options import Device, Model, check_device, messages, with_progress
from qfm_iqm.cli.report import report_rows

if TYPE_CHECKING:
    from qfm_iqm.scoring.rows import ScoreRow


def score(
    paths: Annotated[list[str], typer.Argument(help="Images, and folders of images.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Table to write: .csv, .jsonl or .parquet. Default: a table on the terminal, "
            "CSV into a pipe.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="HTML page of the scores to write, as by qfm report.")
    ] = None,
    model: Model = "default",
    all_files: Annotated[
        bool, typer.Option(help="Take every file in folders, whatever it is called.")
    ] = False,
    allow_truncated: Annotated[
        bool, typer.Option(help="Score what is there of images that break off.")
    ] = False,
    max_megapixels: Annotated[float, typer.Option(help="Larger images are refused.", min=0)] = 250,
    batch_size: Annotated[
        int, typer.Option(help="Crops per pass; does not change scores.", min=1)
    ] = 32,
    readers: Annotated[
        int | None, typer.Option(help="Threads that read images. Default: one per core.", min=1)
    ] = None,
    device: Device = None,
) -> None:
    """Score photos: one row per file, also for a file that cannot be read."""
    from qfm_iqm.errors import QFMError
    from qfm_iqm.network.checkpoint import load_model
    from qfm_iqm.scoring.files import find_images
    from qfm_iqm.scoring.rows import check_output, write_rows
    from qfm_iqm.scoring.scorer import Scorer

    console = messages()
    if out is not None:
        check_output(out)
    if report is not None:
        check_output(report, only=".html")
    check_device(device)
    found = find_images(paths, all_files=all_files)
    for folder in found.unreadable:
        console.print(f"The folder {folder} cannot be listed.", markup=False, soft_wrap=True)
    if not found.files:
        skipped = f" ({found.skipped} files have other names; see --all-files)"
        raise QFMError(
            f"There is no image in {', '.join(paths)}{skipped if found.skipped else ''}."
        )
    loaded = load_model(model)
    scorer = Scorer(
        loaded,
        batch_size=batch_size,
        readers=readers,
        device=device,
        max_pixels=round(max_megapixels * 1e6),
        allow_truncated=allow_truncated,
    )
    began = time.perf_counter()
    rows: list[ScoreRow] = []
    interrupted = False
    try:
        coming = scorer.score_paths(found.files)
        rows.extend(with_progress(coming, len(found.files), "scoring", console))
    except KeyboardInterrupt:
        interrupted = True
    seconds = time.perf_counter() - began
    if out is not None:
        write_rows(rows, out)
    else:
        _show(rows)
    if report is not None:
        report_rows(rows, ", ".join(paths), report, loaded, console)
    errors = [row for row in rows if row.status == "error"]
    if out is not None:
        for row in errors[:5]:
            console.print(row.error, style="red", markup=False, soft_wrap=True)
        if len(errors) > 5:
            console.print(f"... and {len(errors) - 5} more, in {out}.", markup=False)
    console.print(
        _summary(rows, len(errors), found.skipped, seconds, out), markup=False, soft_wrap=True
    )
    if interrupted:
        left = len(found.files) - len(rows)
        console.print(f"Interrupted: {left} images were not scored.", markup=False)
        raise typer.Exit(130)
    if errors or found.unreadable:
        raise typer.Exit(1)


def _summary(
    rows: list[ScoreRow], errors: int, skipped: int, seconds: float, out: Path | None
) -> str:
    images = f"{len(rows) - errors} image{'s' if len(rows) - errors != 1 else ''}"
    text = f"Scored {images} in {seconds:.1f} s ({len(rows) / max(seconds, 1e-9):.1f} images/s)"
    if errors:
        text += f", {errors} could not be scored"
    if skipped:
        text += f", {skipped} other file{'s' if skipped != 1 else ''} passed over"
    return text + (f": {out}" if out is not None else ".")


def _show(rows: list[ScoreRow]) -> None:
    """A table for people on a terminal, CSV for the next program."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from qfm_iqm.scoring.rows import print_csv

    terminal = sys.stdout.isatty()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that are no valid text must not stop us
        if terminal:
            sys.stdout.reconfigure(errors="replace")
        else:  # the same bytes as in a file
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    if not terminal:
        print_csv(rows, sys.stdout)
        sys.stdout.flush()
        return
    explained = any(row.percentile is not None for row in rows)
    names = ["score", *(["interval", "percentile"] if explained else []), "spread", "size"]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("path", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row.score is None or row.spread is None:
            table.add_row(Text(row.path), Text("error", style="red"))
            table.add_row(Text(f"  {row.error}", style="red"))
            continue
        cells = {
            "score": f"{row.score:.2f}",
            "interval": "" if row.low is None else f"{row.low:.0f}–{row.high:.0f}",
            "percentile": "" if row.percentile is None else f"{row.percentile:.0f}",
            "spread": f"{row.spread:.2f}",
            "size": f"{row.width} x {row.height}",
        }
        table.add_row(Text(row.path), *(cells[name] for name in names))
        if row.unusual:
            table.add_row(Text("  unlike the photos the model knows", style="yellow"))
    Console().print(table)
