"""`qfm score`: scores photos into a table."""

from __future__ import annotations

import math
import time
from contextlib import closing, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qfm_iqm.cli.jobs import MANY, files_of, run_job, summary
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
    Raw,
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
from qfm_iqm.cli.report import PAGE_MARK, explainer_of, report_rows
from qfm_iqm.cli.showing import show_rows
from qfm_iqm.errors import QFMError, counted
from qfm_iqm.exit_codes import ExitCode
from qfm_iqm.files import check_distinct, check_output, copy_whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from qfm_iqm.scoring.inputs import FoundFiles
    from qfm_iqm.scoring.row import ScoreRow
    from qfm_iqm.scoring.scorer import Scorer


def score(
    paths: Photos = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="Table to write: .csv, .jsonl or .parquet. Default: a table on the terminal, "
            "CSV into a pipe.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="HTML page of the scores to write, as with qfm report.")
    ] = None,
    resume: Resume = False,
    model: Model = "default",
    list_file: ListFile = None,
    include: Include = None,
    exclude: Exclude = None,
    all_files: AllFiles = False,
    no_pairs: NoPairs = False,
    every: Annotated[
        float, typer.Option(help="Seconds of a video from which one frame is scored.")
    ] = 1.0,
    frames: Annotated[
        Path | None,
        typer.Option(help="Table of the scores of videos' frames to write: .csv."),
    ] = None,
    allow_truncated: Annotated[
        bool,
        typer.Option(help="Score what is left of truncated images and damaged videos."),
    ] = False,
    causes: Annotated[
        bool,
        typer.Option(
            "--causes",
            help="Also tell what lowers each photo's quality: blur, noise, compression, ...",
        ),
    ] = False,
    raw: Raw = "preview",
    max_megapixels: MaxMegapixels = 250,
    max_memory: MaxMemory = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Crops per pass; does not change scores. Default: the runtime's recommendation.",
            min=1,
        ),
    ] = None,
    readers: Readers = None,
    runtime: Runtime = None,
    precision: Precision = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile with torch: pays off for many images.")
    ] = False,
    device: Device = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="local; or ray: many machines, into a folder or URL of Parquet files."),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(help="Ray cluster. Default: RAY_ADDRESS, or Ray on this machine alone."),
    ] = None,
) -> None:
    """Score photos: one row per file, also for a file that cannot be read."""
    from qfm_iqm.scoring import video
    from qfm_iqm.scoring.row import ENDINGS
    from qfm_iqm.scoring.table import OWN_COLUMNS, check_replaceable, read_rows

    console = messages()
    if engine == "local":
        refuse_idle({"--ray-address": ray_address}, "without --engine ray")
    else:
        own = {"--max-memory": max_memory, "--readers": readers, "--report": report}
        own["--frames"] = frames
        refuse_idle(own, "with --engine ray")
    if out is None and (resume or engine == "ray"):
        what = "--resume continues" if resume else "--engine ray writes"
        raise QFMError(f"{what} a table: name it with --out.")
    written = Path(out) if out is not None and engine == "local" else None
    if written is not None:
        check_output(written, *ENDINGS)
    if report is not None:
        check_output(report, ".html", mark=PAGE_MARK)
    if frames is not None:
        check_output(frames, ".csv")
    outputs = {"--out": written, "--report": report, "--frames": frames}
    check_distinct(outputs, [*(paths or []), list_file])
    if written is not None:
        check_replaceable(written, OWN_COLUMNS)
    if frames is not None:
        check_replaceable(frames, video.COLUMNS)
    if not (math.isfinite(every) and every > 0):
        raise QFMError(f"--every must be a finite number of seconds above 0, not {every:g}.")
    check_device(device)
    memory = None if max_memory is None else parse_bytes(max_memory)
    chosen = {"--include": include or [], "--exclude": exclude or []}
    found = files_of(
        paths or [], list_file, chosen | {"--all-files": all_files, "--no-pairs": no_pairs}
    )
    for folder in found.unreadable:
        say(console, f"The folder {folder} cannot be listed.")

    from qfm_iqm.image.memory_budget import keep_freed_memory
    from qfm_iqm.scoring.runtimes.load import load_runtime
    from qfm_iqm.scoring.scorer import Scorer

    choice: dict[str, Any] = {
        "runtime": runtime,
        "precision": precision,
        "device": device,
        "compiled": compiled,
    }
    policy: dict[str, Any] = {
        "batch_size": batch_size,
        "max_pixels": millions(max_megapixels, "--max-megapixels"),
        "allow_truncated": allow_truncated,
        "raw": raw,
        "every": every,
        "causes": causes or report is not None,
    }
    with extra("runtimes", f"The runtime of '{model}'"):
        if engine == "ray":
            code = _score_on_ray(
                str(out), found, model, choice, policy, resume, ray_address, console
            )
            raise typer.Exit(code or int(bool(found.unreadable)))
        loaded = load_runtime(model, say=console.print, **choice)
    if memory is None:  # freed memory that is kept would count against --max-memory
        keep_freed_memory()
    scorer = Scorer(
        loaded,
        readers=readers,
        # Video decoders are large and read untrusted files: they stay out of this process.
        processes=len(found.files) > MANY or memory is not None or bool(found.videos),
        max_memory=memory,
        **policy,
    )
    rows: Iterable[ScoreRow]
    with nullcontext() if frames is report is None else TemporaryDirectory() as place:
        table = None if place is None else Path(place) / "frames.csv"
        if out is None:
            code, rows = _score_and_show(scorer, found, console, table)
        else:
            from qfm_iqm.scoring.job import Job

            with closing(Job(Path(out), found.files, scorer, resume=resume)) as job:
                code = run_job(job, found, console, table)
            rows = read_rows(Path(out)) if code != ExitCode.INTERRUPTED else ()
        there = table if table is not None and table.exists() else None
        if frames is not None and there is not None:
            copy_whole(there, frames)
        elif frames is not None and code != ExitCode.INTERRUPTED:
            say(console, f"No frame of a video was scored: {frames} is not written.")
        if report is not None and code != ExitCode.INTERRUPTED:
            source = ", ".join((paths or [str(list_file)])[:5])
            with interruptible(console, f"{report} is not written."):
                explainer, label = explainer_of(model, loaded), loaded.card.label
                curves = video.read_frames(there) if there else ()
                report_rows(rows, curves, source, report, label, explainer, console)
    if code or found.unreadable:
        raise typer.Exit(code or ExitCode.FINDINGS)


def _score_on_ray(
    out: str,
    found: FoundFiles,
    model: str,
    runtime: dict[str, Any],
    scorer: dict[str, Any],
    resume: bool,
    address: str | None,
    console: Console,
) -> int:
    """Scores into a folder or URL of Parquet files, and returns the exit code.

    Paths become absolute: workers have other current folders.
    """
    from qfm_iqm.scoring.ray_job import DistributedJob, RemoteScorer

    files = [file if "://" in file else str(Path(file).absolute()) for file in found.files]
    model = str(Path(model).absolute()) if Path(model).is_dir() else model
    with extra("ray", "The engine ray"):
        import ray.data  # noqa: F401 - a missing extra is found before any work

        job = DistributedJob(out, files, RemoteScorer(model, runtime, scorer), resume=resume)
        if job.left < len(files):
            say(console, f"{len(files) - job.left} files already have a row.")
        began = time.perf_counter()
        done = errors = 0
        for rows, failures in job.run(address=address):
            done += rows
            errors += failures
            if console.is_terminal:
                console.print(f"{done} of {job.left}", end="\r")
    say(console, f"{summary(done, errors, time.perf_counter() - began, found)}: {out}")
    return int(errors > 0)


def _score_and_show(
    scorer: Scorer, found: FoundFiles, console: Console, table: Path | None
) -> tuple[int, list[ScoreRow]]:
    """Scores to the terminal or a pipe, and returns the exit code and the rows."""
    from qfm_iqm.scoring.video import FrameScore, write_frames

    frames: list[FrameScore] = []
    scorer.frames = frames.append
    began = time.perf_counter()
    rows: list[ScoreRow] = []
    interrupted = False
    try:
        coming = scorer.score_paths(found.files)
        rows.extend(with_progress(coming, len(found.files), "scoring", console))
    except KeyboardInterrupt:
        interrupted = True
    seconds = time.perf_counter() - began
    show_rows(rows)
    if table is not None:
        write_frames(frames, table)
    errors = sum(row.status == "error" for row in rows)
    text = summary(len(rows), errors, seconds, found)
    say(console, f"{text}.")
    if interrupted:
        left = len(found.files) - len(rows)
        say(console, f"Interrupted: {counted(left, 'image was', 'images were')} not scored.")
        return ExitCode.INTERRUPTED, rows
    return int(errors > 0), rows
