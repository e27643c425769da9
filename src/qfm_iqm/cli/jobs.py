"""Finds input files and runs a job on them: for `qfm score` and `qfm cull`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qfm_iqm.cli.options import ignore_interrupts, refuse_idle, say, with_progress
from qfm_iqm.errors import QFMError, counted
from qfm_iqm.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from qfm_iqm.scoring.inputs import FoundFiles
    from qfm_iqm.scoring.job import Job
    from qfm_iqm.scoring.job_config import Outcome

MANY = 200  # files above which reading them in processes pays off


def files_of(
    paths: list[str], list_file: str | None, chosen: dict[str, Any], *, cull: bool = False
) -> FoundFiles:
    """Finds the input files, at least one.

    Args:
        paths: files and folders.
        list_file: text file with more paths; - for stdin.
        chosen: values of the options that select files in folders, by option name.
        cull: skip videos and do not look into archives.

    Raises:
        QFMError: no path is given, or there is no image.
    """
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
        raise QFMError("Nothing to score: name images or folders, or a list of them with --list.")
    if "" in paths:
        raise QFMError("One of the paths is empty: name images or folders.")
    found = find_images(
        paths,
        all_files=chosen["--all-files"],
        include=chosen.get("--include", ()),
        exclude=chosen.get("--exclude", ()),
        videos=not cull,
        archives=not cull,
        pairs=not chosen["--no-pairs"],
    )
    if not found.folders:
        refuse_idle(chosen, "where no folder is named")
    if not found.files and found.unreadable:
        raise QFMError(f"The folder {found.unreadable[0]} cannot be listed.")
    if not found.files:
        hint = "" if chosen.get("--include") or chosen.get("--exclude") else "; see --all-files"
        others = counted(found.skipped, "other file", "other files")
        skipped = f" ({others}{hint})"
        raise QFMError(
            f"There is no image in {', '.join(paths[:5])}{skipped if found.skipped else ''}."
        )
    return found


def run_job(job: Job, found: FoundFiles, console: Console, table: Path | None = None) -> int:
    """Runs a job until its table is written, and returns the exit code.

    Args:
        job: the open job.
        found: the job's files.
        console: console for messages.
        table: table of video frames to write; None writes none.
    """
    from qfm_iqm.scoring.job_folder import holds_rows

    if job.kept:
        say(console, f"{counted(job.kept, 'file already has a', 'files already have a')} row.")
    began = time.perf_counter()
    scored = errors = 0
    try:
        for row in with_progress(job.run(), job.left, "scoring", console):
            scored += 1
            errors += row.status == "error"
        seconds = time.perf_counter() - began
        outcome: Outcome = job.finish(table)
    except KeyboardInterrupt:
        ignore_interrupts()
        kept = f"; the scores so far are in {job.folder}" if holds_rows(job.folder) else ""
        say(
            console,
            f"Interrupted: {counted(job.left - scored, 'image was', 'images were')} not scored. "
            f"Continue with the same command and --resume{kept}.",
        )
        return ExitCode.INTERRUPTED
    for error in outcome.first_errors:
        say(console, error, "red")
    if outcome.errors > len(outcome.first_errors):
        more = outcome.errors - len(outcome.first_errors)
        say(console, f"... and {more} more, in {job.out}.")
    text = summary(scored, errors, seconds, found)
    say(console, f"{text}: {job.out}")
    return int(outcome.errors > 0)


def summary(rows: int, errors: int, seconds: float, found: FoundFiles) -> str:
    """A summary sentence without its full stop.

    Args:
        rows: number of rows, including errors.
        errors: number of rows with an error.
        seconds: duration.
        found: the input files.
    """
    text = f"Scored {counted(rows - errors, 'image')} in {seconds:.1f} s"
    if rows > errors:
        text += f" ({rows / max(seconds, 1e-9):.1f} images/s)"
    if errors:
        text += f", {errors} could not be scored"
    if found.joined:
        text += f", {counted(found.joined, 'file')} joined with their photo"
    if found.skipped:
        text += f", {counted(found.skipped, 'other file')} skipped"
    return text
