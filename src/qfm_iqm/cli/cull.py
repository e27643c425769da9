"""`qfm cull`: chooses which photo of each moment to keep."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qfm_iqm.cli.jobs import MANY, files_of, run_job
from qfm_iqm.cli.options import (
    AllFiles,
    Device,
    Exclude,
    Include,
    ListFile,
    MaxMegapixels,
    MaxMemory,
    Model,
    NoPairs,
    Photos,
    Precision,
    Readers,
    Resume,
    Runtime,
    check_device,
    extra,
    interruptible,
    messages,
    millions,
    parse_bytes,
    refuse_idle,
    say,
    with_progress,
)
from qfm_iqm.cli.report import PAGE_MARK, write_page
from qfm_iqm.errors import QFMError, counted
from qfm_iqm.exit_codes import ExitCode
from qfm_iqm.files import check_distinct, check_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from qfm_iqm.culling.row import CullRow
    from qfm_iqm.culling.sidecar import Naming


def cull(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Table to write: .csv, .jsonl or .parquet.")
    ],
    paths: Photos = None,
    report: Annotated[
        Path | None, typer.Option(help="HTML page to write, for browsing the moments.")
    ] = None,
    xmp: Annotated[
        bool, typer.Option("--xmp", help="Write ratings into XMP sidecars beside the photos.")
    ] = False,
    xmp_name: Annotated[
        Literal["full", "stem", "both"] | None,
        typer.Option(
            help="full: photo.jpg.xmp, as darktable and digiKam read it; stem: photo.xmp, as "
            "Lightroom reads it beside raw files; both. Default: full."
        ),
    ] = None,
    overwrite_ratings: Annotated[
        bool, typer.Option("--overwrite-ratings", help="Replace existing ratings.")
    ] = False,
    gap: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Time between photos of one moment, at most. Default: 30.",
            min=0,
        ),
    ] = None,
    resume: Resume = False,
    model: Model = "default",
    list_file: ListFile = None,
    include: Include = None,
    exclude: Exclude = None,
    all_files: AllFiles = False,
    no_pairs: NoPairs = False,
    max_megapixels: MaxMegapixels = 250,
    max_memory: MaxMemory = None,
    readers: Readers = None,
    runtime: Runtime = None,
    precision: Precision = None,
    device: Device = None,
) -> None:
    """Group photos by moment, rank each group, and mark the one to keep. Deletes nothing."""
    from qfm_iqm.scoring.row import ENDINGS
    from qfm_iqm.scoring.table import OWN_COLUMNS, check_replaceable

    console = messages()
    if not xmp:
        idle = {"--xmp-name": xmp_name, "--overwrite-ratings": overwrite_ratings}
        refuse_idle(idle, "without --xmp")
    check_output(out, *ENDINGS)
    if report is not None:
        check_output(report, ".html", mark=PAGE_MARK)
    check_distinct({"--out": out, "--report": report}, [*(paths or []), list_file])
    check_replaceable(out, OWN_COLUMNS)
    check_device(device)
    memory = None if max_memory is None else parse_bytes(max_memory)
    chosen = {"--include": include or [], "--exclude": exclude or []}
    found = files_of(
        paths or [], list_file, chosen | {"--all-files": all_files, "--no-pairs": no_pairs},
        cull=True,
    )  # fmt: skip
    if found.videos:
        raise QFMError(f"qfm cull ranks photos, and {found.videos[0]} is a video: leave it out.")
    for folder in found.unreadable:
        say(console, f"The folder {folder} cannot be listed.")

    from qfm_iqm.culling.job import CullJob
    from qfm_iqm.culling.sights import SightScorer
    from qfm_iqm.image.memory_budget import keep_freed_memory
    from qfm_iqm.scoring.runtimes.load import load_runtime

    with extra("runtimes", f"The runtime of '{model}'"):
        loaded = load_runtime(model, runtime, precision=precision, device=device, say=console.print)
    if memory is None:  # freed memory that is kept would count against --max-memory
        keep_freed_memory()
    scorer = SightScorer(
        loaded,
        readers=readers,
        processes=len(found.files) > MANY or memory is not None,
        max_memory=memory,
        max_pixels=millions(max_megapixels, "--max-megapixels"),
    )
    progress = partial(with_progress, title="comparing moments", console=console)
    job = CullJob(out, found.files, scorer, resume=resume, gap=gap, progress=progress)
    if job.gone:
        photos = counted(
            len(job.gone), "photo that no longer exists", "photos that no longer exist"
        )
        say(console, f"{out} leaves out {photos}.")
    try:
        code = run_job(job, found, console)
        if code == ExitCode.INTERRUPTED:
            raise typer.Exit(code)
        rows = job.rows
    finally:
        job.close()
    _summarize(rows, console)
    with interruptible(console, f"{out} is written, but files that belong to it may be missing."):
        if xmp:
            code = max(code, _write_sidecars(rows, xmp_name or "full", overwrite_ratings, console))
        if report is not None:
            _write_report(rows, out, report, console)
    if code or found.unreadable:
        raise typer.Exit(code or ExitCode.FINDINGS)


def _summarize(rows: Sequence[CullRow], console: Console) -> None:
    """Prints how many photos, moments and duplicates there are."""
    culled = [row for row in rows if row.moment is not None]
    several = {row.moment for row in culled if row.photos != 1}
    exact, near = (sum(row.duplicate == kind for row in culled) for kind in ("exact", "near"))
    keepers = sum(row.keep is True for row in culled)
    say(
        console,
        f"{counted(len(culled), 'photo')} of {counted(keepers, 'moment')}, "
        f"{len(several)} of them with several photos: "
        f"{keepers} to keep, {counted(len(culled) - keepers, 'other')} "
        f"({counted(exact, 'exact duplicate')}, {counted(near, 'near duplicate')}).",
    )


def _write_sidecars(
    rows: Sequence[CullRow], naming: Naming, overwrite: bool, console: Console
) -> int:
    """Writes the sidecars and returns the exit code."""
    from qfm_iqm.culling.sidecar import write_sidecars

    outcome = write_sidecars(rows, naming, overwrite=overwrite)
    kept = f", {outcome.kept} kept an existing rating" if outcome.kept else ""
    say(console, f"Wrote {counted(outcome.written, 'XMP sidecar')}{kept}.")
    for problem in outcome.problems[:5]:
        say(console, problem, "red")
    if len(outcome.problems) > 5:
        say(console, f"... and {len(outcome.problems) - 5} more sidecars were not written.", "red")
    return int(bool(outcome.problems))


def _write_report(rows: Sequence[CullRow], source: Path, out: Path, console: Console) -> None:
    """Writes the HTML page of moments."""
    from qfm_iqm.report.moments import moments_page
    from qfm_iqm.report.scores import Place

    page = moments_page(
        rows, str(source), Place(out, Path()), progress=partial(with_progress, console=console)
    )
    write_page(page, out, console)
