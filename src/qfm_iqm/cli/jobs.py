"""Which files a verb is about, and running a job over them: for `qfm score` and `qfm cull`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qfm_iqm.cli.options import refuse_idle, say, with_progress
from qfm_iqm.errors import counted
from qfm_iqm.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from qfm_iqm.scoring.inputs import FoundFiles
    from qfm_iqm.scoring.job import Job
    from qfm_iqm.scoring.job_config import Outcome

MANY = 200  # files: from here on it pays to start processes that read them


def files_of(
    paths: list[str], list_file: str | None, chosen: dict[str, Any], *, cull: bool = False
) -> FoundFiles:
    """The files that are meant, at least one.

    Args:
        paths: of files and folders.
        list_file: that names more; - for stdin.
        chosen: the options that choose in folders, by name.
        cull: take photos that lie beside each other, and no videos.

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
    if "" in paths:
        raise QFMError("One of the paths is empty: name images or folders.")
    found = find_images(
        paths,
        all_files=chosen["--all-files"],
        include=chosen["--include"],
        exclude=chosen["--exclude"],
        videos=not cull,
        archives=not cull,
        pairs=not chosen["--no-pairs"],
    )
    if not found.folders:
        refuse_idle(chosen, "where no folder is named")
    if not found.files and found.unreadable:
        raise QFMError(f"The folder {found.unreadable[0]} cannot be listed.")
    if not found.files:
        hint = "" if chosen["--include"] or chosen["--exclude"] else "; see --all-files"
        others = counted(found.skipped, "file has another name", "files have other names")
        skipped = f" ({others}{hint})"
        raise QFMError(
            f"There is no image in {', '.join(paths[:5])}{skipped if found.skipped else ''}."
        )
    return found


def run_job(job: Job, found: FoundFiles, console: Console, table: Path | None = None) -> int:
    """Runs a job to its table; gives the exit code.

    Args:
        job: opened.
        found: its files.
        console: for people.
        table: of the videos' frames to write; None for none.
    """
    from qfm_iqm.scoring.job import holds_rows

    if job.kept:
        say(console, f"{counted(job.kept, 'file has its', 'files have their')} row already.")
    began = time.perf_counter()
    scored = errors = 0
    try:
        for row in with_progress(job.run(), job.left, "scoring", console):
            scored += 1
            errors += row.status == "error"
        seconds = time.perf_counter() - began
        outcome: Outcome = job.finish(table)
    except KeyboardInterrupt:
        kept = f"; what was scored is in {job.folder}" if holds_rows(job.folder) else ""
        say(
            console,
            f"Interrupted: {counted(job.left - scored, 'image was', 'images were')} not scored. "
            f"Go on with the same command and --resume{kept}.",
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
    """What was scored, in a sentence without its end.

    Args:
        rows: of files that were scored, errors among them.
        errors: of these.
        seconds: that it took.
        found: the files.
    """
    text = f"Scored {counted(rows - errors, 'image')} in {seconds:.1f} s"
    if rows > errors:
        text += f" ({rows / max(seconds, 1e-9):.1f} images/s)"
    if errors:
        text += f", {errors} could not be scored"
    if found.joined:
        text += f", {counted(found.joined, 'file')} joined with their photo"
    if found.skipped:
        text += f", {counted(found.skipped, 'other file')} passed over"
    return text
