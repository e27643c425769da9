"""`qfm score`: photos in, a table of scores out."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from qfm_iqm.cli.options import (
    AllFiles,
    Device,
    MaxMegapixels,
    MaxMemory,
    Model,
    NoPairs,
    Precision,
    Raw,
    Runtime,
    check_device,
    extra,
    messages,
    millions,
    parse_bytes,
    refuse_idle,
    say,
    with_progress,
)
from qfm_iqm.cli.report import explainer_of, report_rows
from qfm_iqm.cli.showing import show_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.scoring.inputs import FoundFiles
    from qfm_iqm.scoring.job import Job
    from qfm_iqm.scoring.job_config import Outcome
    from qfm_iqm.scoring.row import ScoreRow
    from qfm_iqm.scoring.runtimes.base import Runtime as ScoringRuntime
    from qfm_iqm.scoring.scorer import Scorer

MANY = 200  # files: from here on it pays to start processes that read them


def score(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Images, and folders of images.")
    ] = None,
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
        Path | None, typer.Option(help="HTML page of the scores to write, as by qfm report.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            help="Go on where an earlier run of this table was ended, or help one that is running."
        ),
    ] = False,
    model: Model = "default",
    list_file: Annotated[
        str | None,
        typer.Option("--list", help="File with one path a line; - reads it from stdin."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Of the files in folders, take those that match, like '*.png'."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Of the files in folders, leave these out.")
    ] = None,
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
        typer.Option(help="Score what is there of images that break off, and of damaged videos."),
    ] = False,
    raw: Raw = "preview",
    max_megapixels: MaxMegapixels = 250,
    max_memory: MaxMemory = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Crops per pass; does not change scores. Default: what the runtime computes best.",
            min=1,
        ),
    ] = None,
    readers: Annotated[
        int | None,
        typer.Option(help="Processes that read images. Default: one per core.", min=1),
    ] = None,
    runtime: Runtime = None,
    precision: Precision = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Let torch compile the network: pays for many images.")
    ] = False,
    device: Device = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="local; or ray: many machines, into a folder or URL of Parquet files."),
    ] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster. Default: Ray on this machine alone.")
    ] = None,
) -> None:
    """Score photos: one row per file, also for a file that cannot be read."""
    from qfm_iqm.errors import QFMError
    from qfm_iqm.files import check_output
    from qfm_iqm.scoring.inputs import is_video_name
    from qfm_iqm.scoring.row import ENDINGS
    from qfm_iqm.scoring.table import read_rows
    from qfm_iqm.scoring.video import read_frames

    console = messages()
    if engine == "local":
        refuse_idle({"--ray-address": ray_address}, "without --engine ray")
    else:
        own = {"--max-memory": max_memory, "--readers": readers, "--report": report}
        own["--frames"] = frames
        refuse_idle(own, "with --engine ray")
    if out is None and (resume or engine == "ray"):
        what = "--resume goes on with" if resume else "--engine ray writes"
        raise QFMError(f"{what} a table: name it with --out.")
    if out is not None and engine == "local":
        check_output(Path(out), *ENDINGS)
    if report is not None:
        check_output(report, ".html")
    if frames is not None:
        check_output(frames, ".csv")
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
    }
    with extra("runtimes", f"The runtime of '{model}'"):
        if engine == "ray":
            code = _score_on_ray(
                str(out), found, model, choice, policy, resume, ray_address, console
            )
            raise typer.Exit(code or int(bool(found.unreadable)))
        loaded = load_runtime(model, say=console.print, **choice)
    if memory is None:  # what is kept would count
        keep_freed_memory()
    scorer = Scorer(
        loaded,
        readers=readers,
        # What decodes videos of strangers is large, and is kept out of this process.
        processes=len(found.files) > MANY
        or memory is not None
        or any(is_video_name(Path(file).name) for file in found.files),
        max_memory=memory,
        **policy,
    )
    rows: Iterable[ScoreRow]
    with TemporaryDirectory() as folder:
        table = frames or (None if report is None else Path(folder) / "frames.csv")
        if out is None:
            code, rows = _score_and_show(scorer, found, console, table)
        else:
            code = _score_into(Path(out), scorer, found, resume, console, table)
            rows = read_rows(Path(out)) if code != 130 else ()
        if report is not None and table is not None and code != 130:
            source = ", ".join((paths or [str(list_file)])[:5])
            explainer, label = _explainer(loaded, model), loaded.card.label
            videos = len(table.read_bytes().splitlines()) > 1  # more than its header
            known = read_frames(table) if videos else ()
            report_rows(rows, known, source, report, label, explainer, console)
    if code or found.unreadable:
        raise typer.Exit(code or 1)


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
    """Scores into a folder or URL of Parquet files; gives the exit code.

    Paths become absolute: other machines stand in other folders.
    """
    from qfm_iqm.scoring.ray_job import DistributedJob, RemoteScorer

    files = [file if "://" in file else str(Path(file).absolute()) for file in found.files]
    model = str(Path(model).absolute()) if Path(model).is_dir() else model
    with extra("ray", "The engine ray"):
        import ray.data  # noqa: F401 - a missing extra is found before any work

        job = DistributedJob(out, files, RemoteScorer(model, runtime, scorer), resume=resume)
        if job.left < len(files):
            say(console, f"{len(files) - job.left} files have their row already.")
        began = time.perf_counter()
        done = errors = 0
        for part in job.run(address=address):
            done += part.rows
            errors += part.errors
            if console.is_terminal:
                console.print(f"{done} of {job.left}", end="\r")
    seconds = time.perf_counter() - began
    rate = done / max(seconds, 1e-9)
    failed = f", {errors} could not be scored" if errors else ""
    say(
        console,
        f"Scored {done - errors} images in {seconds:.1f} s ({rate:.1f} images/s){failed}: {out}",
    )
    return int(errors > 0)


def _explainer(loaded: ScoringRuntime, model: str) -> QualityModel | None:
    """What draws maps: the model that scores if torch computes it, or else the same in torch."""
    own: QualityModel | None = getattr(loaded, "model", None)
    return own or explainer_of(model)


def files_of(
    paths: list[str], list_file: str | None, chosen: dict[str, Any], *, videos: bool = True
) -> FoundFiles:
    """The files that are meant, at least one.

    Args:
        paths: of files and folders.
        list_file: that names more; - for stdin.
        chosen: the options that choose in folders, by name.
        videos: take the videos in folders too.

    Raises:
        QFMError: nothing is named, or there is no image.
    """
    from qfm_iqm.errors import QFMError
    from qfm_iqm.scoring.inputs import find_images, read_list

    if list_file == "-":
        paths = [*paths, *read_list(sys.stdin.buffer, "on stdin")]
    elif list_file is not None:
        try:
            with Path(list_file).open("rb") as file:
                paths = [*paths, *read_list(file, list_file)]
        except OSError as error:
            raise QFMError(f"The list {list_file} cannot be read: {error.strerror}.") from error
    if not paths:
        raise QFMError("Nothing to score: name images or folders, or a list of them by --list.")
    found = find_images(
        paths,
        all_files=chosen["--all-files"],
        include=chosen["--include"],
        exclude=chosen["--exclude"],
        videos=videos,
        pairs=not chosen["--no-pairs"],
    )
    if not found.folders:
        refuse_idle(chosen, "where no folder is named")
    if not found.files:
        hint = "" if chosen["--include"] or chosen["--exclude"] else "; see --all-files"
        skipped = f" ({found.skipped} files have other names{hint})"
        raise QFMError(
            f"There is no image in {', '.join(paths[:5])}{skipped if found.skipped else ''}."
        )
    return found


def _score_and_show(
    scorer: Scorer, found: FoundFiles, console: Console, table: Path | None
) -> tuple[int, list[ScoreRow]]:
    """Scores for the terminal or a pipe; gives the exit code and the rows."""
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
    summary = _summary(len(rows), errors, seconds, found)
    say(console, f"{summary}.")
    if interrupted:
        left = len(found.files) - len(rows)
        say(console, f"Interrupted: {left} images were not scored.")
        return 130, rows
    return int(errors > 0), rows


def _score_into(
    out: Path,
    scorer: Scorer,
    found: FoundFiles,
    resume: bool,
    console: Console,
    table: Path | None,
) -> int:
    """Scores into a table, as a job that can go on; gives the exit code."""
    from qfm_iqm.scoring.job import Job

    job = Job(out, found.files, scorer, resume=resume)
    try:
        return run_job(job, found, console, table)
    finally:
        job.close()


def run_job(job: Job, found: FoundFiles, console: Console, table: Path | None = None) -> int:
    """Runs a job to its table; gives the exit code.

    Args:
        job: opened.
        found: its files.
        console: for people.
        table: of the videos' frames to write; None for none.
    """
    if job.kept:
        say(console, f"{job.kept} files have their row already.")
    began = time.perf_counter()
    scored = errors = 0
    try:
        for row in with_progress(job.run(), job.left, "scoring", console):
            scored += 1
            errors += row.status == "error"
        seconds = time.perf_counter() - began
        outcome: Outcome = job.finish(table)
    except KeyboardInterrupt:
        left = job.left - scored
        say(
            console,
            f"Interrupted: {left} images were not scored. Go on with the same command and "
            f"--resume; what was scored is in {job.folder}.",
        )
        return 130
    for error in outcome.first_errors:
        say(console, error, "red")
    if outcome.errors > len(outcome.first_errors):
        more = outcome.errors - len(outcome.first_errors)
        say(console, f"... and {more} more, in {job.out}.")
    summary = _summary(scored, errors, seconds, found)
    say(console, f"{summary}: {job.out}")
    return int(outcome.errors > 0)


def _summary(rows: int, errors: int, seconds: float, found: FoundFiles) -> str:
    images = f"{rows - errors} image{'s' if rows - errors != 1 else ''}"
    text = f"Scored {images} in {seconds:.1f} s ({rows / max(seconds, 1e-9):.1f} images/s)"
    if errors:
        text += f", {errors} could not be scored"
    if found.joined:
        text += f", {found.joined} file{'s' if found.joined != 1 else ''} joined with their photo"
    if found.skipped:
        text += f", {found.skipped} other file{'s' if found.skipped != 1 else ''} passed over"
    return text
